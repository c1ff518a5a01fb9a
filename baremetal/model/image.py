"""A golden image as stored and as streamed to a node's disk."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Chunk:
    """4 MiB of the raw disk (the last may be shorter).

    `offset` and `zsize` are bytes within the raw.zst file (zsize 0: the chunk
    is all zeros and has no frame); `sha256` is over the compressed frame.
    """

    offset: int
    zsize: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the deploy agent needs to write and verify an image.

    `id` is `sha256:` + hex over the raw.zst file. Sizes in bytes. Signed as the
    exact bytes of its JSON (Ed25519, detached).
    """

    id: str
    name: str
    raw_size: int
    chunk_size: int
    zst_size: int
    chunks: tuple[Chunk, ...]
    firmware: tuple[str, ...] = ("bios", "uefi")
    arch: str = "x86_64"
    min_disk: int = 0
    created: str = ""
    properties: dict[str, str] = field(default_factory=dict)
