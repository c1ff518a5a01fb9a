"""debugfs commands that put entries of a tree into an ext4 file system.

Sources are given relative to the tree, so equal trees give equal commands.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images.errors import BuildFailed
from baremetal.images.nodes import Node

# What overlayfs keeps for itself, and labels of the build machine.
_PRIVATE = ("trusted.overlay.", "user.overlay.", "security.selinux")


@dataclass
class Script:
    """Commands of one sitting; changes directory only when it must. `facts`: what the commands read."""

    epoch: int
    lines: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    values: list[tuple[str, str, bytes]] = field(default_factory=list)
    first: dict[tuple[int, int], Node] = field(default_factory=dict)
    links: dict[tuple[int, int], int] = field(default_factory=dict)
    cwd: str = "/"

    def enter(self, directory: str) -> None:
        """Work in this directory."""
        if directory != self.cwd:
            self.lines.append(f"cd {quoted(directory)}")
            self.cwd = directory

    def directory(self, node: Node, *, dressed: bool = True) -> None:
        """Make a directory; `dressed`: with its owner, mode and date."""
        self.enter(node.parent)
        self.lines.append(f"mkdir {quoted(node.name)}" if node.path != "/lost+found" else "#")
        if dressed:
            self._dress(node, stat.S_IFDIR | 0o755)

    def dress_directory(self, node: Node) -> None:
        """Owner, mode and date of a directory that is there."""
        self.enter(node.parent)
        self._dress(node, stat.S_IFDIR | 0o755)

    def files(self, found: Sequence[Node], before: Script | None = None) -> None:
        """Everything but directories; `before` is the sitting whose inodes are in the file system already."""
        if before:
            self.first, self.links = dict(before.first), dict(before.links)
        more: set[tuple[int, int]] = set()
        for node in found:
            self.enter(node.parent)
            if node.st.st_nlink > 1 and node.inode in self.first:
                self.lines.append(f"ln {quoted(self.first[node.inode].path)} {quoted(node.name)}")
                self.links[node.inode] = self.links.get(node.inode, 1) + 1
                more.add(node.inode)
                continue
            self.first[node.inode] = node
            self._make(node)
        for inode in (inode for inode in self.first if inode in more):
            node = self.first[inode]
            self.enter(node.parent)
            self._set(node.name, links_count=self.links[inode])

    def attributes(self, found: Sequence[Node]) -> None:
        """File capabilities, ACLs, user attributes."""
        for node in found:
            try:
                names = os.listxattr(node.source, follow_symlinks=False)
            except OSError:
                continue
            for name in sorted(names):
                if not name.startswith(_PRIVATE):
                    value = os.getxattr(node.source, name, follow_symlinks=False)
                    self.values.append((node.path, name, value))
                    self.facts.append(f"{node.path} {name} {hashlib.sha256(value).hexdigest()}")

    def attribute_lines(self, scratch: Path) -> Iterator[str]:
        """Commands that set the attributes, from value files written to `scratch`."""
        for number, (path, name, value) in enumerate(self.values):
            file = scratch / f"xattr-{number}"
            file.write_bytes(value)
            yield f"ea_set -f {quoted(str(file))} {quoted(path)} {name}"

    def _make(self, node: Node) -> None:
        mode = node.st.st_mode
        if stat.S_ISREG(mode):
            self.lines.append(f"write {quoted('.' + node.path)} {quoted(node.name)}")
            self.facts.append(node.sha256)
            self._dress(node, mode)
        elif stat.S_ISLNK(mode):
            self.lines.append(f"symlink {quoted(node.name)} {quoted(os.readlink(node.source))}")
            self._dress(node, mode)
        elif stat.S_ISFIFO(mode):
            self.lines.append(f"mknod {quoted(node.name)} p")
            self._dress(node, 0)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            kind = "c" if stat.S_ISCHR(mode) else "b"
            major, minor = os.major(node.st.st_rdev), os.minor(node.st.st_rdev)
            self.lines.append(f"mknod {quoted(node.name)} {kind} {major} {minor}")
            self._dress(node, 0)

    def _dress(self, node: Node, mode: int) -> None:
        """Owner, mode and date of what was just made with `mode`."""
        st = node.st
        if st.st_mode != mode:
            self._set(node.name, mode=f"0{st.st_mode:o}")
        if st.st_uid:
            self._set(node.name, uid=st.st_uid)
        if st.st_gid:
            self._set(node.name, gid=st.st_gid)
        if int(st.st_mtime) < self.epoch:
            self._set(node.name, mtime=f"@{max(0, int(st.st_mtime))}")

    def _set(self, name: str, **values: int | str) -> None:
        for key, value in values.items():
            # debugfs takes "<12>" for an inode's number.
            self.lines.append(f"sif {quoted(f'./{name}' if name.startswith('<') else name)} {key} {value}")


def quoted(word: str) -> str:
    """A word for debugfs' command line; it knows double quotes, doubled inside."""
    if "\n" in word:
        raise BuildFailed(
            f"disk: file name {word!r} holds a line break", fix="rename or remove it in a cleanup.d script"
        )
    return '"' + word.replace('"', '""') + '"'
