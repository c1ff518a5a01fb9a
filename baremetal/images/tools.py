"""Programs of this machine that the disk stage runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from baremetal.images.errors import BuildFailed, ToolMissing
from baremetal.version import __version__

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What decides the bytes of a disk besides its tree.
DECIDE = ("mke2fs", "debugfs", "mkfs.xfs", "mkswap", "sgdisk", "mformat", "grub-mkimage", "qemu-img", "zstd")


def tool(command: Sequence[str], *, package: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program of this machine; its output, or an error that names the package it is in."""
    path = {"PATH": PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env={**path, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as exc:
        raise ToolMissing(f"{command[0]} not found", fix=f"apt install {package}") from exc
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise BuildFailed(f"disk: {command[0]} failed (exit {done.returncode})", detail=text.strip()[-2000:])
    return text


def versions() -> str:
    """Name and digest of each deciding tool, and our own version."""
    words = [__version__]
    for name in DECIDE:
        path = shutil.which(name, path=PATH)
        words.append(f"{name}={hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}" if path else f"{name}=none")
    return " ".join(words)
