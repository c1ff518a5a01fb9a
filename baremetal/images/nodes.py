"""The finished tree as a list: each entry with its status, the layer it comes from, and its digest.

Made by one walk; the disk, the list of files and the size all read from it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from baremetal.images.contents import file_sha256, read_index, walk

BLOCK = 4096
INODE = 256


@dataclass(slots=True)
class Node:
    """One entry of the tree: its path below the root, and its lstat. `rank`: 1 for the lowest layer, 0 unknown."""

    path: str
    source: str
    st: os.stat_result
    rank: int = 0
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def parent(self) -> str:
        return self.path.rsplit("/", 1)[0] or "/"

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.st.st_mode)

    @property
    def inode(self) -> tuple[int, int]:
        return self.st.st_dev, self.st.st_ino


def read(tree: Path, layers: Sequence[Path]) -> list[Node]:
    """Every entry of the merged tree; `layers` are the trees it is made of, topmost first."""
    rank: dict[str, int] = {}
    digests: dict[str, str] = {}
    for number, layer in enumerate(reversed(layers), 1):
        for path, sha in read_index(layer.parent).items():
            rank[path] = number
            digests[path] = sha
    skip = len(str(tree).rstrip("/"))
    found = []
    for path, st in walk(tree):
        below = path[skip:]
        node = Node(below, path, st, rank.get(below) or _rank(below, layers))
        if stat.S_ISREG(st.st_mode):
            sha = digests.get(below, "-")
            node.sha256 = sha if len(sha) == 64 else file_sha256(path)
        found.append(node)
    return found


def _rank(path: str, layers: Sequence[Path]) -> int:
    """For layers without index, and what overlayfs shows under another name."""
    return next((len(layers) - i for i, layer in enumerate(layers) if os.path.lexists(f"{layer}{path}")), 0)


def inside(found: Iterable[Node], mount: str, hidden: Sequence[str] = ()) -> list[Node]:
    """The entries below a mount point, by their path there; what lies below the mounts in `hidden` is left out."""
    prefix = mount.rstrip("/")
    veils = tuple(f"{path.rstrip('/')}/" for path in hidden)
    return [
        Node(node.path[len(prefix) :], node.source, node.st, node.rank, node.sha256)
        for node in found
        if node.path.startswith(f"{prefix}/") and not node.path.startswith(veils)
    ]


def needed_bytes(found: Iterable[Node]) -> int:
    """Bytes of blocks and inodes the entries need; a file with several names counts once."""
    total = BLOCK + INODE * 2
    seen: set[tuple[int, int]] = set()
    for node in found:
        if node.is_dir:
            total += BLOCK + INODE * 2
            continue
        if node.st.st_nlink > 1:
            if node.inode in seen:
                continue
            seen.add(node.inode)
        total += -(-node.st.st_size // BLOCK) * BLOCK + INODE * 2
    return total
