"""What was typed wrong is answered with the page that says how it is right, when nothing better is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = [  # words, exit code, what is said, the way on
    ("image add nope.qcow2", 2, "nope.qcow2", "fix: "),
    ("image add-ramdisk nokernel noinitrd --name x", 2, "nokernel", "fix: "),
    ("node set n1", 2, "nothing to change", "fix: baremetal node set --help"),
    ("metadata set n1 " + ".".join("a" * 5000) + "=1", 2, "nests 5000 deep", "fix: at most"),
    ("events --limit -1", 2, "--limit", "fix: "),
    ("node power off", 2, "power off: which nodes?", "fix: baremetal node power off r1-u07"),
    ("node import nope.json", 2, "nope.json", "fix: "),
    ("node list --where " + "(" * 9000, 2, "too long for one request", "fix: a shorter --where"),
    ("metadata set --site --file nope.json", 2, "nope.json", "fix: "),
    ("inspection rule add nope.toml", 2, "nope.toml", "fix: "),
]


@pytest.mark.parametrize(("words", "code", "said", "fix"), TYPED, ids=[row[0][:30] for row in TYPED])
def test_refusal(tmp_path: Path, words: str, code: int, said: str, fix: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "baremetal", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "BAREMETAL_STATE_DIR": str(tmp_path / "s"), "BAREMETAL_RUN_DIR": str(tmp_path / "r")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert fix in done.stderr, done.stderr
