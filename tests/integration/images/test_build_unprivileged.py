"""A build as uid 0 of a user namespace, as an unprivileged user gets one from newuidmap.

The test, being root, writes the id map itself: no entry in /etc/subuid is needed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from baremetal.images import userns

pytestmark = pytest.mark.integration
CLONE_NEWUSER = 0x10000000
OUTER = 100000
CODE = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_build_offline as t
from baremetal.images import builder, userns
assert not userns.initial()
built = builder.build(t.definition("greet", kind="disk", formats=("raw",)), t.options(Path({cache!r})))
print(built.path)
"""


def in_user_namespace(command: list[str], log: Path) -> int:
    """Run a command as uid 0 of a namespace whose ids are OUTER… outside; its exit code."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        if ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
            os._exit(111)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os.setgid(0)
        os.setuid(0)
        out = os.open(log, os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execvpe(command[0], command, {**os.environ, "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"})
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {OUTER} 65536\n")
    os.write(go[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory the mapped ids own; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="baremetal-userns-"))
    path.chmod(0o755)
    os.chown(path, OUTER, OUTER)
    yield path
    shutil.rmtree(path)


def test_a_disk_without_root(place: Path) -> None:
    code = CODE.format(here=str(Path(__file__).parent), cache=str(place / "cache"))
    log = place / "log"
    log.touch()
    log.chmod(0o666)
    assert in_user_namespace([sys.executable, "-c", code], log) == 0, log.read_text()
    disk = log.read_text().split()[-1]
    subprocess.run(["e2fsck", "-fn", f"{disk}?offset={34 << 20}"], check=True, capture_output=True)
    stat = subprocess.run(["debugfs", "-R", "stat /etc/greeting", f"{disk}?offset={34 << 20}"], capture_output=True)
    assert b"User:     0   Group:     0" in stat.stdout  # root's in the image, though OUTER's outside


def test_a_range_of_ids_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("other:100000:65536\nme:165536:65536\n")
    assert userns.has_range(tmp_path / "subuid", "me")
    assert not userns.has_range(tmp_path / "subuid", "you")
    assert not userns.has_range(tmp_path / "none", "me")
