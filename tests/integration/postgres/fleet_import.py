"""The helpers of this directory as modules: pytest's importlib mode puts no test directory on the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _load(name: str, file: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert spec
        assert spec.loader
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


pg_cluster = _load("pg_cluster", "cluster.py")
fleet = _load("pg_fleet", "fleet.py")
