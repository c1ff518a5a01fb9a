"""Gives each server process the files that are its own, when it runs as another user than root."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import UsageError


def hand_over(settings: Settings) -> None:
    """Done by init and at each start of serve, as root: users may be set at any time."""
    for path in settings.state_dir.glob("baremetal.db*"):
        _only_owner(path)
    if os.geteuid() != 0:
        return
    for path in _of_control(settings):
        _give(path, settings.user or "root")
    for path in (settings.boot_dir, *_inside(settings.boot_dir)):
        _give(path, settings.boot_user or "root")


def _of_control(settings: Settings) -> Iterator[Path]:
    yield from (settings.state_dir, settings.keys_dir, settings.images_dir, settings.artifacts_dir)
    yield settings.log_dir  # not cache_dir: root builds images from what lies there
    yield from settings.state_dir.glob("baremetal.db*")
    yield from _inside(settings.keys_dir)
    yield from _inside(settings.artifacts_dir)
    for directory in (settings.state_dir / "console",):
        if directory.is_dir():
            yield directory
            yield from directory.rglob("*")


def _inside(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _only_owner(path: Path) -> None:
    """Mode 0600, of a file that is really there: who runs as the server's user may have put a link in its place."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _give(path: Path, user: str) -> None:
    """Files and directories, never what a link points to, nor a file that has another name elsewhere."""
    try:
        account = pwd.getpwnam(user)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
            os.chown(path, account.pw_uid, -1, follow_symlinks=False)
    except FileNotFoundError:
        return
    except LookupError:
        raise UsageError(
            f"there is no user {user!r} to run as",
            fix=f"create it (adduser --system --group {user}), or clear user and boot_user in the configuration",
        ) from None
