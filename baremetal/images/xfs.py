"""An XFS file system from a tree: mkfs.xfs fills it from a prototype file, xfs_db sets what a prototype cannot say.

A prototype (mkfs.xfs(8), -p) has no dates, no sticky bit and no extended
attributes; dates and bits are written by xfs_db afterwards, so the same tree
gives the same bytes. Needs no root and no mount.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images.bases import place
from baremetal.images.errors import BuildFailed, ToolMissing
from baremetal.images.nodes import Node
from baremetal.images.tools import PATH, tool

MIN_BYTES = 304 << 20  # mkfs.xfs makes none smaller than 300 MB
LOG_BYTES = 72 << 20  # its journal, of 64 MiB at least, and what each allocation group keeps for itself
SET_AT_BOOT = "/var/log/journal"  # systemd-tmpfiles gives it its access list at each boot (tmpfiles.d/systemd.conf)
_BIGTIME = 1 << 31  # s between the epoch of on-disk time stamps and 1970
_KINDS = {stat.S_IFREG: "-", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
_KINDS |= {stat.S_IFIFO: "p", stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


@dataclass(frozen=True)
class Filesystem:
    """What identifies it, and where in the disk image it lies. Sizes and offsets in bytes; epoch in s."""

    uuid: str
    label: str
    epoch: int
    offset: int
    size: int
    options: str = ""  # of mkfs, checked


def make(disk: Path, fs: Filesystem, root: Path, found: Sequence[Node], scratch: Path) -> None:
    """Write the file system into the disk image."""
    image, prototype = scratch / "xfs.img", scratch / "xfs.proto"
    image.unlink(missing_ok=True)
    with open(image, "wb") as file:
        file.truncate(fs.size)
    prototype.write_text("\n".join(proto(root, found)) + "\n", errors="surrogateescape")
    command = ["mkfs.xfs", "-q", "-f", "-b", "size=4096", "-m", f"uuid={fs.uuid},bigtime=1", "-L", fs.label[:12]]
    command += fs.options.split()
    tool([*command, "-p", str(prototype), str(image)], package="xfsprogs")
    _finish(image, [Node("/", str(root), root.stat()), *found], fs.epoch)
    place(image, disk, fs.offset)
    image.unlink()


def proto(root: Path, found: Sequence[Node]) -> Iterator[str]:
    """The lines of the prototype file."""
    yield "/"
    yield "0 0"
    yield _line("", Node("/", str(root), root.stat()))
    below: dict[str, list[Node]] = {}
    for node in found:
        below.setdefault(node.parent, []).append(node)
    yield from _directory(below, "/")
    yield "$"


def _directory(below: dict[str, list[Node]], path: str) -> Iterator[str]:
    for node in below.get(path, []):
        yield _line(node.name, node)
        if node.is_dir:
            yield from _directory(below, node.path)
            yield "$"


def _line(name: str, node: Node) -> str:
    st = node.st
    if any(c.isspace() for c in f"{name}{node.source}"):
        raise BuildFailed(f"disk: xfs: {node.path!r} has a space in its name", fix="rename it, or use ext4")
    mode = st.st_mode
    setuid, setgid = "u" if mode & stat.S_ISUID else "-", "g" if mode & stat.S_ISGID else "-"
    words = [*([name] if name else []), f"{_KINDS[stat.S_IFMT(mode)]}{setuid}{setgid}{mode & 0o777:03o}"]
    words += [str(st.st_uid), str(st.st_gid)]
    if stat.S_ISREG(mode):
        words.append(node.source)
    elif stat.S_ISLNK(mode):
        words.append(os.readlink(node.source))
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        words += [str(os.major(st.st_rdev)), str(os.minor(st.st_rdev))]
    return " ".join(words)


def _finish(image: Path, found: Sequence[Node], epoch: int) -> None:
    """Dates and sticky bits, inode by inode."""
    # The real-time bitmap and summary have inodes too, dated today.
    lines = [line for inode in ("rbmino", "rsumino") for line in ("sb 0", f"addr {inode}", *_dates(epoch, epoch))]
    for node in found:
        for name in os.listxattr(node.source, follow_symlinks=False):
            if node.path == SET_AT_BOOT and name.startswith("system.posix_acl"):
                continue
            if name.startswith(("security.capability", "system.posix_acl", "user.")):
                raise BuildFailed(
                    f"disk: xfs: {node.path} has the attribute {name}, which is lost here", fix="use ext4 for this tree"
                )
        lines.append(f"path {node.path}")
        if node.st.st_mode & stat.S_ISVTX:
            lines.append(f"write core.mode 0{node.st.st_mode:o}")
        lines += _dates(max(0, min(int(node.st.st_mtime), epoch)), epoch)
    try:
        done = subprocess.run(
            ["xfs_db", "-x", str(image)],
            input="\n".join(lines).encode(errors="surrogateescape") + b"\n",
            env={"PATH": PATH, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError as exc:
        raise ToolMissing("xfs_db not found", fix="apt install xfsprogs") from exc
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0 or said:
        raise BuildFailed("disk: the xfs file system could not be finished", detail=said[-2000:])


def _dates(written: int, epoch: int) -> Iterator[str]:
    """Commands for the dates of the current inode: nanoseconds since 1901 (xfs_format.h, bigtime).

    xfs_db shows seconds in `.sec`, and writes the whole 64 bits there.
    """
    for field, when in (("core.mtime", written), ("core.ctime", epoch), ("core.atime", epoch), ("v3.crtime", epoch)):
        yield f"write -d {field}.sec {(when + _BIGTIME) * 1_000_000_000}"
