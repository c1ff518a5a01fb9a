"""The reference pages that are made from tables say what the tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["settings.md", "exit-codes.md", "ironic-differences.md"])
def test_page_is_as_old_as_the_code(page):
    done = subprocess.run([sys.executable, ROOT / "hack/gen-docs", "--check", page], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
