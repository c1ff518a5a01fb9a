"""Gives each server process the files that are its own, when it runs as another user than root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import UsageError


def hand_over(settings: Settings) -> None:
    """Done by init and at each start of serve, as root: users may be set at any time."""
    for path in settings.state_dir.glob("baremetal.db*"):
        path.chmod(0o600)
    if os.geteuid() != 0:
        return
    for path in _of_control(settings):
        _give(path, settings.user or "root")
    for path in (settings.boot_dir, *_inside(settings.boot_dir)):
        _give(path, settings.boot_user or "root")


def _of_control(settings: Settings) -> Iterator[Path]:
    yield from (settings.state_dir, settings.keys_dir, settings.images_dir, settings.artifacts_dir)
    yield from (settings.cache_dir, settings.log_dir)
    yield from settings.state_dir.glob("baremetal.db*")
    yield from _inside(settings.keys_dir)
    yield from _inside(settings.artifacts_dir)
    for directory in (settings.state_dir / "console",):
        if directory.is_dir():
            yield directory
            yield from directory.rglob("*")


def _inside(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _give(path: Path, user: str) -> None:
    try:
        if path.exists() and not path.is_symlink():
            shutil.chown(path, user)
    except LookupError:
        raise UsageError(
            f"there is no user {user!r} to run as",
            fix=f"create it (adduser --system --group {user}), or clear user and boot_user in the configuration",
        ) from None
