"""An ext4 file system from a tree, the same bytes each time: mke2fs makes it empty, debugfs fills it in our order.

`mke2fs -d` writes files in readdir order, which differs between machines, and
copies atime and ctime. Here directories come first, then files layer by layer,
so a change in an upper layer leaves the blocks of the lower ones where they
were. Reads the tree only; needs no root, no mount and no copy.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images.errors import BuildFailed, DiskTooSmall
from baremetal.images.layers import walk
from baremetal.images.tools import tool

# What debugfs says on stderr besides errors.
_CHATTER = ("debugfs 1.",)


@dataclass
class Node:
    """One entry of the tree: its path below the root, and its lstat."""

    path: str
    source: str
    st: os.stat_result
    rank: int = 0

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def parent(self) -> str:
        return self.path.rsplit("/", 1)[0] or "/"


@dataclass
class Script:
    """debugfs commands; changes directory only when it must."""

    epoch: int
    lines: list[str] = field(default_factory=list)
    cwd: str = "/"

    def enter(self, directory: str) -> None:
        if directory != self.cwd:
            self.lines.append(f"cd {quoted(directory)}")
            self.cwd = directory

    def set(self, name: str, **values: int | str) -> None:
        for key, value in values.items():
            self.lines.append(f"sif {quoted(name)} {key} {value}")

    def dress(self, node: Node, mode: int) -> None:
        """Owner, mode and date of what was just made with `mode`."""
        st = node.st
        if st.st_mode != mode:
            self.set(node.name, mode=f"0{st.st_mode:o}")
        if st.st_uid:
            self.set(node.name, uid=st.st_uid)
        if st.st_gid:
            self.set(node.name, gid=st.st_gid)
        if int(st.st_mtime) < self.epoch:
            self.set(node.name, mtime=f"@{max(0, int(st.st_mtime))}")


def quoted(word: str) -> str:
    """A word for debugfs' command line; it knows double quotes, doubled inside."""
    if "\n" in word:
        raise BuildFailed(
            f"disk: file name {word!r} holds a line break", fix="rename or remove it in a cleanup.d script"
        )
    return '"' + word.replace('"', '""') + '"'


def nodes(tree: Path, layers: Sequence[Path], empty: Sequence[Path] = ()) -> list[Node]:
    """Every entry; `rank` is the layer it comes from, lowest first. `layers` is topmost first.

    What is below the directories in `empty` is left out: other file systems are mounted there.
    """
    prefix = len(str(tree).rstrip("/"))
    hidden = tuple(f"{path}/" for path in empty)
    found = []
    for path, st in walk(tree):
        if path.startswith(hidden):
            continue
        below = path[prefix:]
        rank = next((len(layers) - i for i, layer in enumerate(layers) if os.path.lexists(f"{layer}{below}")), 0)
        found.append(Node(below, path, st, rank))
    return found


def script(found: Sequence[Node], epoch: int, attributes: Path) -> list[str]:
    """The commands that fill an empty file system with these nodes."""
    out = Script(epoch)
    directories = [node for node in found if stat.S_ISDIR(node.st.st_mode)]
    for node in directories:
        out.enter(node.parent)
        out.lines.append(f"mkdir {quoted(node.name)}" if node.path != "/lost+found" else "#")
        out.dress(node, stat.S_IFDIR | 0o755)
    first: dict[tuple[int, int], Node] = {}
    others = sorted((n for n in found if not stat.S_ISDIR(n.st.st_mode)), key=lambda n: (n.rank, n.path))
    for node in others:
        out.enter(node.parent)
        key = (node.st.st_dev, node.st.st_ino)
        if node.st.st_nlink > 1 and key in first:
            out.lines.append(f"ln {quoted(first[key].path)} {quoted(node.name)}")
            continue
        first[key] = node
        _make(out, node)
    for node in others:
        if node.st.st_nlink > 1 and first[(node.st.st_dev, node.st.st_ino)] is node:
            links = sum(1 for n in others if (n.st.st_dev, n.st.st_ino) == (node.st.st_dev, node.st.st_ino))
            if links > 1:
                out.enter(node.parent)
                out.set(node.name, links_count=links)
    out.enter("/")
    out.lines += list(_xattrs(found, attributes))
    return out.lines


def _make(out: Script, node: Node) -> None:
    mode = node.st.st_mode
    if stat.S_ISREG(mode):
        out.lines.append(f"write {quoted(node.source)} {quoted(node.name)}")
        out.dress(node, mode)
    elif stat.S_ISLNK(mode):
        out.lines.append(f"symlink {quoted(node.name)} {quoted(os.readlink(node.source))}")
        out.dress(node, mode)
    elif stat.S_ISFIFO(mode):
        out.lines.append(f"mknod {quoted(node.name)} p")
        out.dress(node, 0)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        kind = "c" if stat.S_ISCHR(mode) else "b"
        major, minor = os.major(node.st.st_rdev), os.minor(node.st.st_rdev)
        out.lines.append(f"mknod {quoted(node.name)} {kind} {major} {minor}")
        out.dress(node, 0)


def _xattrs(found: Sequence[Node], scratch: Path) -> Iterator[str]:
    """File capabilities, ACLs, user attributes; what overlayfs keeps for itself is left out."""
    count = 0
    for node in found:
        try:
            names = os.listxattr(node.source, follow_symlinks=False)
        except OSError:
            continue
        for name in sorted(names):
            if name.startswith(("trusted.overlay.", "user.overlay.", "security.selinux")):
                continue
            value = scratch / f"xattr-{count}"
            value.write_bytes(os.getxattr(node.source, name, follow_symlinks=False))
            count += 1
            yield f"ea_set -f {quoted(str(value))} {quoted(node.path)} {name}"


@dataclass(frozen=True)
class Filesystem:
    """What identifies it, and where in the disk image it lies. Sizes and offsets in bytes; epoch in s."""

    uuid: str
    label: str
    epoch: int
    offset: int
    size: int
    journal_mib: int = 16


def make(
    disk: Path, tree: Path, fs: Filesystem, *, layers: Sequence[Path], scratch: Path, empty: Sequence[Path] = ()
) -> None:
    """Write the file system straight into the disk image."""
    env = {"E2FSPROGS_FAKE_TIME": str(fs.epoch), "MKE2FS_SKIP_CHECK_MSG": "1"}
    extended = f"offset={fs.offset},hash_seed={fs.uuid},lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-J", f"size={fs.journal_mib}"]
    command += ["-m", "1", "-L", fs.label, "-U", fs.uuid, "-E", extended, str(disk), f"{fs.size // 1024}k"]
    tool(command, package="e2fsprogs", env=env)
    found = nodes(tree, layers, empty)
    with tempfile.TemporaryDirectory(dir=scratch) as attributes:
        commands = script(found, fs.epoch, Path(attributes))
        root = tree.stat()
        commands.append(f"sif / mode 0{root.st_mode:o}")
        _fill(disk, fs, commands, env)


def _fill(disk: Path, fs: Filesystem, commands: Sequence[str], env: dict[str, str]) -> None:
    import subprocess

    try:
        done = subprocess.run(
            ["debugfs", "-w", "-f", "-", f"{disk}?offset={fs.offset}"],
            input="\n".join(commands).encode(errors="surrogateescape") + b"\n",
            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C", **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError as exc:
        from baremetal.images.errors import ToolMissing

        raise ToolMissing("debugfs not found", fix="apt install e2fsprogs") from exc
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith(_CHATTER)]
    if any("No space left" in line or "Could not allocate" in line for line in said):
        raise DiskTooSmall("disk: the tree does not fit its file system", detail="\n".join(said[:5]))
    if done.returncode != 0 or said:
        raise BuildFailed("disk: the file system could not be filled", detail="\n".join(said[:10]))
