"""The rig of hack/bench for the soaks: a server in a process of its own before a simulated rack, that can be killed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

RIG = Path(__file__).resolve().parents[2] / "hack/bench/kill_rig.py"


@pytest.fixture
def kit() -> ModuleType:
    """Its module."""
    spec = importlib.util.spec_from_file_location("kill_rig", RIG)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_rig"] = module
    spec.loader.exec_module(module)
    return module
