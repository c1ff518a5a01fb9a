"""The reference page of states, verbs and steps says what the tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_is_as_old_as_the_code() -> None:
    command = [sys.executable, ROOT / "hack/gen-docs", "--check", "lifecycle.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
