"""An ext4 file system from a tree, the same bytes each time: mke2fs makes it empty, debugfs fills it in our order.

`mke2fs -d` writes files in readdir order, which differs between machines, and
copies atime and ctime. Here directories come first, then files layer by layer.
It is filled in two sittings: what the lower, steady layers gave, and the rest.
The first is kept (bases.py), so a change in an upper layer writes only the rest.
Reads the tree only; needs no root, no mount and no copy.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images.debugfs import Script
from baremetal.images.errors import BuildFailed, DiskTooSmall, NoSpace, ToolMissing
from baremetal.images.mkfsopts import INODE_BYTES, Ext4
from baremetal.images.nodes import Node
from baremetal.images.tools import tool

FULL_BYTES = 8 << 20  # the machine's own disk is full when it has less for ordinary users
# What debugfs says on stderr besides errors.
_CHATTER = ("debugfs 1.",)


@dataclass(frozen=True)
class Filesystem:
    """What identifies it, and where in the disk image it lies. Sizes and offsets in bytes; epoch in s."""

    uuid: str
    label: str
    epoch: int
    offset: int
    size: int
    options: Ext4


@dataclass(frozen=True)
class Filling:
    """A file system and the two sittings that fill it."""

    fs: Filesystem
    root: Path
    base: Script
    rest: Script

    def digest(self) -> str:
        """Identity of the file system after the first sitting."""
        words = [repr(self.fs), *self.base.lines, *self.base.facts]
        return hashlib.sha256("\n".join(words).encode(errors="surrogateescape")).hexdigest()


def filling(fs: Filesystem, root: Path, found: Sequence[Node], steady: int) -> Filling:
    """How to fill it with these entries; those of the lowest `steady` layers come in the first sitting."""
    base, rest = Script(fs.epoch), Script(fs.epoch)
    lower = {node.path for node in found if node.rank <= steady}
    needed = _ancestors(lower)
    directories = [node for node in found if node.is_dir]
    for node in directories:
        if node.path in lower:
            base.directory(node)
        elif node.path in needed:
            base.directory(node, dressed=False)
            rest.dress_directory(node)
        else:
            rest.directory(node)
    others = sorted((n for n in found if not n.is_dir), key=lambda n: (n.rank, n.path))
    base.files([n for n in others if n.path in lower])
    rest.files([n for n in others if n.path not in lower], base)
    base.attributes([n for n in found if n.path in lower])
    rest.attributes([n for n in found if n.path not in lower])
    rest.enter("/")
    rest.lines.append(f"sif / mode 0{root.stat().st_mode:o}")
    return Filling(fs, root, base, rest)


def _ancestors(paths: set[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        here = path.rpartition("/")[0]
        while here and here not in found:
            found.add(here)
            here = here.rpartition("/")[0]
    return found


def make(disk: Path, fs: Filesystem) -> None:
    """An empty file system straight in the disk image."""
    extended = [f"offset={fs.offset}", f"hash_seed={fs.uuid}", "lazy_itable_init=1", "lazy_journal_init=1"]
    extended += ["nodiscard", "root_owner=0:0", *fs.options.extended]
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", str(INODE_BYTES), "-m", "1", *fs.options.words]
    command += ["-J", f"size={fs.options.journal_mib}"] if fs.options.journal_mib else []
    command += ["-L", fs.label, "-U", fs.uuid, "-E", ",".join(extended), str(disk), f"{fs.size // 1024}k"]
    tool(command, package="e2fsprogs", env=_clock(fs))


def fill(disk: Path, filling: Filling, sitting: Script, scratch: Path) -> None:
    """Run one sitting."""
    fs = filling.fs
    with tempfile.TemporaryDirectory(dir=scratch) as values:
        commands = [*sitting.lines, *sitting.attribute_lines(Path(values))]
        try:
            done = subprocess.run(
                ["debugfs", "-w", "-f", "-", f"{os.path.abspath(disk)}?offset={fs.offset}"],
                input="\n".join(commands).encode(errors="surrogateescape") + b"\n",
                env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C", **_clock(fs)},
                cwd=filling.root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError as exc:
            raise ToolMissing("debugfs not found", fix="apt install e2fsprogs") from exc
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith(_CHATTER)]
    if any("No space left" in line or "Could not allocate" in line for line in said):
        here = os.statvfs(disk.parent)
        if here.f_bavail * here.f_frsize < FULL_BYTES:  # debugfs says the same of both
            raise NoSpace("no space left for the disk image", detail="\n".join(said[:5]))
        raise DiskTooSmall("disk: the tree does not fit its file system", detail="\n".join(said[:5]))
    if done.returncode != 0 or said:
        raise BuildFailed("disk: the file system could not be filled", detail="\n".join(said[:10]))


def _clock(fs: Filesystem) -> dict[str, str]:
    return {"E2FSPROGS_FAKE_TIME": str(fs.epoch), "MKE2FS_SKIP_CHECK_MSG": "1"}
