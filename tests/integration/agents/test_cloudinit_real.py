"""Debian's cloud-init, its commands as they are, with NoCloud, ConfigDrive and our EC2 and OpenStack endpoints (slow).

Its packages are fetched with apt and unpacked aside; nothing is installed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]
REPO = Path(__file__).parents[3]
SOURCES = {"NoCloud", "ConfigDrive", "Ec2", "OpenStack"}


def unpacked(directory):
    """The package cloud-init with what this system lacks of its dependencies."""
    (directory / "debs/partial").mkdir(parents=True)
    where = ["-o", f"Dir::Cache::archives={directory}/debs"]
    words = ["apt-get", "-y", "-q", "--no-install-recommends", "--download-only", *where, "install", "cloud-init"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for package in (directory / "debs").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, directory / "tree"], check=True)
    return directory / "tree"


def test_stock_cloud_init_takes_all_four(tmp_path):
    tree = unpacked(tmp_path)
    (tmp_path / "scratch").mkdir()
    world = [sys.executable, str(Path(__file__).with_name("cloudinit_world.py")), str(tree), str(tmp_path / "scratch")]
    # cloud-init asks OpenStack's service only on machines that say so: here process 1 does, in place of DMI.
    env = {**os.environ, "PYTHONPATH": str(REPO), "product_name": "OpenStack Nova"}
    words = ["unshare", "-n", "-m", "-u", "-p", "--fork", "--mount-proc", *world]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=500)
    found = json.loads(done.stdout or "{}")
    assert set(found) == SOURCES, done.stderr
    for source, seen in found.items():
        said = seen.pop("said")
        assert f"DataSource{source}" in (seen.pop("source") or ""), (source, said)
        assert seen.pop("keys")[0].startswith("ssh-ed25519 "), (source, said)
        assert seen == {"instance": "id-1", "hostname": "r1-u07", "written": True}, (source, said)
