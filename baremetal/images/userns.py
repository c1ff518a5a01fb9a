"""Builds without root: the whole command again, as uid 0 of a user namespace of one's own.

Needs newuidmap and a range of subordinate ids (/etc/subuid, /etc/subgid), since
a Debian tree has more owners than one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path

from baremetal.images.errors import ToolMissing


def initial() -> bool:
    """True when uid 0 here would be the machine's own root."""
    return Path("/proc/self/uid_map").read_text().split()[:3] == ["0", "0", "4294967295"]


def enter() -> None:
    """Return when we are root; else start again inside a user namespace, and never return."""
    if os.geteuid() == 0:
        return
    user = pwd.getpwuid(os.geteuid()).pw_name
    if not shutil.which("newuidmap"):
        raise ToolMissing("building without root needs newuidmap", fix="apt install uidmap, or use sudo")
    for path in ("/etc/subuid", "/etc/subgid"):
        if not has_range(Path(path), user):
            raise ToolMissing(
                f"{user} has no range of ids in {path}",
                fix=f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, or use sudo",
            )
    os.environ.setdefault("BAREMETAL_CACHE_DIR", str(user_cache()))
    program = sys.argv if os.access(sys.argv[0], os.X_OK) else [sys.executable, *sys.argv]
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--map-auto", "--", *program])  # noqa: S606


def has_range(path: Path, user: str) -> bool:
    """True when a subordinate id file gives this user a range."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in (user, str(os.geteuid())) for line in lines)


def user_cache() -> Path:
    """Where layers of an unprivileged user lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baremetal"
