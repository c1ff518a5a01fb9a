"""Fixtures of the boot plane's tests; the parts are in conftest_bootplane.py, so that tests can name them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest_bootplane import rig

__all__ = ["rig"]
