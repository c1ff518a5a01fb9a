"""The engine's bench: a conductor over a simulated rack."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "engine/conftest.py"
_SPEC = importlib.util.spec_from_file_location("engine_conftest", _SOURCE)
assert _SPEC is not None
assert _SPEC.loader is not None
_ENGINE = importlib.util.module_from_spec(_SPEC)
sys.modules["engine_conftest"] = _ENGINE
_SPEC.loader.exec_module(_ENGINE)

globals().update({name: value for name, value in vars(_ENGINE).items() if not name.startswith("_")})
