"""A script fills the node's disk: it is reported, the files are what they were, and with room again all goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_a_full_disk_is_survived(tmp_path):
    words = ["unshare", "-m", "--propagation", "private", sys.executable]
    world = str(Path(__file__).with_name("fulldisk_world.py"))
    done = subprocess.run([*words, world, str(tmp_path)], capture_output=True, text=True, timeout=500)
    found = json.loads(done.stdout.splitlines()[-1])
    outcome, brief, text = found["full"]
    assert (outcome, text) == ("failed", "one\n"), found["log"]
    assert brief
    assert found["again"] == ["applied", "three\n", "three \n"], found["log"]
    assert found["left"] == ["hostname", "motd", "other"], "no half file stays"
