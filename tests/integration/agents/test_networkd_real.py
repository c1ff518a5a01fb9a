"""network_data applied by the real systemd-networkd, and taken back when the server is out of reach."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
REPO = Path(__file__).parents[3]


def test_networkd_takes_our_files_and_a_wrong_network_goes_back(tmp_path):
    assert Path("/lib/systemd/systemd-networkd").exists(), "Debian's package systemd is missing"
    script = Path(__file__).with_name("networkd_world.py")
    words = ["unshare", "-n", "-m", "--propagation", "private", sys.executable, str(script), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=400)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    there = {"addresses": ["10.9.0.5/24"], "route": "192.0.2.0/24 via 10.9.0.1 dev br proto static"}
    assert found["first"] == [True, there]
    assert found["again"] is False
    assert "the old one is back" in found["wrong"]
    assert found["after"] == [True, there]
    log = (tmp_path / "networkd.log").read_text()
    complaints = [line for line in log.splitlines() if re.search(r"\.(network|netdev|link):\d+:", line)]
    assert complaints == [], "networkd does not know something that we write"
