"""Reproducible newc cpio archives: sorted, owned by root, one date, device nodes without root.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from baremetal.images.errors import ToolMissing
from baremetal.images.layers import walk

TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One member; `data` is a path to read, bytes, or None. `device` is (major, minor)."""

    name: str
    mode: int
    data: Path | bytes | None = None
    device: tuple[int, int] = (0, 0)


# The kernel opens /dev/console before init can mount devtmpfs.
NODES = (
    Entry("dev", stat.S_IFDIR | 0o755),
    Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
)


def entries(tree: Path, skip: Sequence[str] = ()) -> Iterator[Entry]:
    """Every file of a tree as members, sorted; top-level names in `skip` are left out."""
    root = str(tree)
    fixed = {entry.name for entry in NODES}
    for path, st in walk(tree):
        name = path[len(root) + 1 :]
        if name.split("/", 1)[0] in skip or name in fixed:
            continue
        if stat.S_ISLNK(st.st_mode):
            yield Entry(name, st.st_mode, os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(st.st_mode):
            yield Entry(name, st.st_mode, Path(path))
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            yield Entry(name, st.st_mode, device=(os.major(st.st_rdev), os.minor(st.st_rdev)))
        elif not stat.S_ISSOCK(st.st_mode):
            yield Entry(name, st.st_mode)


def write(out: IO[bytes], members: Iterable[Entry], *, epoch: int) -> None:
    """Write a newc archive; every member is root's and dated `epoch` (s)."""
    inode = 0
    for inode, entry in enumerate(members, 1):
        body = entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data or b""
        _member(out, inode, entry, body, epoch)
    _member(out, inode + 1, Entry(TRAILER, 0), b"", 0)


def _member(out: IO[bytes], inode: int, entry: Entry, body: bytes, epoch: int) -> None:
    name = os.fsencode(entry.name) + b"\0"
    major, minor = entry.device
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, epoch, len(body), 0, 0, major, minor, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers)
    out.write(head + name + bytes(-(len(head) + len(name)) % 4))
    out.write(body + bytes(-len(body) % 4))


def write_zstd(tree: Path, target: Path, *, epoch: int, skip: Sequence[str] = (), level: int = 19) -> None:
    """The tree as one zstd-compressed archive, with console and null."""
    members = [*NODES, *entries(tree, skip)]
    with open(target, "wb") as out:
        command = ["zstd", "-q", f"-{level}", "-T0", "-c", "-"]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
        except FileNotFoundError as exc:
            raise ToolMissing("zstd not found", fix="apt install zstd") from exc
        assert process.stdin is not None
        with process.stdin:
            write(process.stdin, members, epoch=epoch)
        if process.wait() != 0:
            raise ToolMissing("zstd failed on the ramdisk")
