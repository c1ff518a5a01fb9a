"""Files are handed to the server's user at each start: that user must not get, or spoil, root's through links."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from baremetal.config import Settings
from baremetal.serve.owners import hand_over

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, which only root may")


def test_links_lead_nowhere(tmp_path: Path) -> None:
    theirs = tmp_path / "root-owned"
    theirs.write_text("root's")
    theirs.chmod(0o644)
    other = tmp_path / "also-root-owned"
    other.write_text("root's")
    other.chmod(0o644)
    settings = Settings(state_dir=tmp_path / "state", user="nobody", boot_user="nobody")
    for directory in (settings.keys_dir, settings.boot_dir, settings.state_dir / "console/n1"):
        directory.mkdir(parents=True)
    (settings.state_dir / "baremetal.db").write_text("ours")
    (settings.state_dir / "baremetal.db-wal").symlink_to(theirs)
    (settings.keys_dir / "operator.key").symlink_to(theirs)
    (settings.state_dir / "console/n1/a.log").symlink_to(theirs)
    os.link(other, settings.state_dir / "baremetal.db-shm")
    os.link(other, settings.boot_dir / "snapshot")
    hand_over(settings)
    assert (theirs.stat().st_uid, theirs.stat().st_mode & 0o777) == (0, 0o644)
    assert (other.stat().st_uid, other.stat().st_mode & 0o777) == (0, 0o644)
    ours = (settings.state_dir / "baremetal.db").stat()
    assert (ours.st_uid, ours.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 0o600)
