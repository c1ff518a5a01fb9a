"""What a directory of a layer holds: walked, sealed, digested, and listed in an index.

The seal is cheap (names, sizes, dates) and notices damage. The content digest
decides whether layers above stay valid. The index keeps each file's SHA-256, so
that no later stage reads the files again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

INDEX = "index"


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below root with its lstat, sorted, depth first."""
    with os.scandir(root) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def seal(root: Path) -> str:
    """Digest over names, modes, sizes and mtimes: notices truncated, edited and missing files."""
    digest = hashlib.blake2b(digest_size=16)
    skip = len(str(root))
    for path, st in walk(root):
        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        digest.update(f"{path[skip:]}\0{st.st_mode}\0{size}\0{st.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def content(draft: Path) -> tuple[str, int]:
    """(digest over what later phases can see, bytes): names, modes, owners, link targets and data; no times.

    Leaves the index of the tree beside it.
    """
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    index: list[str] = []
    for top in ("tree", "hooks", "out"):
        root = draft / top
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
    (draft / INDEX).write_text("".join(index), errors="surrogateescape")
    return digest.hexdigest(), size


def read_index(layer: Path) -> dict[str, str]:
    """path -> SHA-256 of every entry of a layer's tree ("-" for what is no file); empty for a layer without index."""
    try:
        text = (layer / INDEX).read_text(errors="surrogateescape")
    except OSError:
        return {}
    pairs = (entry.split(" ", 1) for entry in text.split("\0") if entry)
    return {path: sha for sha, path in pairs}


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
