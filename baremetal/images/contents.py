"""What a directory of a layer holds: walked, sealed, digested, and listed in an index.

The seal is cheap (names, sizes, dates) and notices damage. The content digest
decides whether layers above stay valid, and notices damage that changed no date.
The index keeps each file's SHA-256, so that no later stage reads the files again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

INDEX = "index"


class Seal(NamedTuple):
    """What can be seen of a directory without reading a file; `changed_ns`: the newest ctime in it."""

    digest: str
    changed_ns: int


@dataclass(frozen=True)
class Content:
    """What can be seen by reading everything; `size`: bytes of all files, `room`: bytes they take on this disk."""

    digest: str
    size: int
    index: str  # of the tree
    room: int


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below root with its lstat, sorted, depth first."""
    with os.scandir(root) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def seal(root: Path) -> Seal:
    """Digest over names, modes, sizes and mtimes: notices truncated, edited and missing files."""
    digest = hashlib.blake2b(digest_size=16)
    skip = len(str(root))
    changed_ns = 0
    for path, st in walk(root):
        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        digest.update(f"{path[skip:]}\0{st.st_mode}\0{size}\0{st.st_mtime_ns}\n".encode(errors="surrogateescape"))
        changed_ns = max(changed_ns, st.st_ctime_ns)
    return Seal(digest.hexdigest(), changed_ns)


def content(layer: Path) -> Content:
    """What later phases can see: names, modes, owners, link targets and data; no times."""
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    index: list[str] = []
    for top in ("tree", "hooks", "out"):
        root = layer / top
        if not root.is_dir():
            continue
        skip = len(str(root))
        for path, st in walk(root):
            head = f"{top}{path[skip:]}\0{st.st_mode}\0{st.st_uid}:{st.st_gid}\0{st.st_rdev}\0"
            digest.update(head.encode(errors="surrogateescape"))
            sha = "-"
            if stat.S_ISLNK(st.st_mode):
                digest.update(os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(st.st_mode):
                size += st.st_size
                sha = file_sha256(path)
                digest.update(bytes.fromhex(sha))
            elif stat.S_ISDIR(st.st_mode) and is_opaque(path):
                digest.update(b"opaque")
            if top == "tree":
                index.append(f"{sha} {path[skip:]}\0")
    return Content(digest.hexdigest(), size, "".join(index), room(layer))


def room(place: Path) -> int:
    """Bytes a file, or all below a directory, take on the disk: no holes, and a file of two names once."""
    found = {(st.st_dev, st.st_ino): st.st_blocks for _, st in (walk(place) if place.is_dir() else ())}
    return (sum(found.values()) + place.lstat().st_blocks) * 512


def write_index(layer: Path, index: str) -> None:
    """Keep the index beside the tree."""
    (layer / INDEX).write_text(index, errors="surrogateescape")


def read_index(layer: Path) -> dict[str, str]:
    """path -> SHA-256 of every entry of a layer's tree ("-" for what is no file); empty for a layer without index."""
    pairs = (entry.split(" ", 1) for entry in index_text(layer).split("\0") if entry)
    return {path: sha for sha, path in pairs}


def index_text(layer: Path) -> str:
    """The index as it was written; empty when there is none."""
    try:
        return (layer / INDEX).read_text(errors="surrogateescape")
    except OSError:
        return ""


def file_sha256(path: str) -> str:
    """SHA-256 of a file's data as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# overlayfs' mark of a directory that hides the one below it, as root and in a user namespace.
_OPAQUE = {"trusted.overlay.opaque", "user.overlay.opaque"}


def is_opaque(path: str) -> bool:
    """True for a directory of a layer that hides the one of the same name below."""
    return bool(_OPAQUE & set(_xattrs(path)))


def _xattrs(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []
