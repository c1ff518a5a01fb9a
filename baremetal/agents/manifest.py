"""The image manifest as the installer needs it: signature first, then every number checked."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple

from baremetal.agents.trouble import ImageManifest, ImageSignature
from baremetal.protocol import ed25519

MIN_CHUNK = 64 * 1024  # bytes; the first one holds a whole partition table, which is written last
MAX_CHUNK = 64 * 1024 * 1024  # bytes; the installer holds a few of them
MAX_CHUNKS = 4_000_000  # 16 TiB of 4 MiB


class Chunk(NamedTuple):
    """A frame of the raw.zst file: `offset` and `zsize` bytes there; zsize 0 is a chunk of zeros.

    A frame of zeros may stand in the file for other tools; nobody reads it.
    """

    offset: int
    zsize: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Sizes in bytes. Chunk n covers the disk from n * chunk_size."""

    id: str
    name: str
    raw_size: int
    chunk_size: int
    zst_size: int
    chunks: List[Chunk]
    properties: Dict[str, Any]

    def length(self, n: int) -> int:
        """Bytes of chunk n on the disk: the last may be shorter."""
        return min(self.chunk_size, self.raw_size - n * self.chunk_size)

    @property
    def sector_size(self) -> int:
        """The logical sector size the image's partition table was made for."""
        text = str(self.properties.get("sector_size", 512))
        return int(text) if text in ("512", "4096") else 512


def verified(raw: bytes, signature: bytes, public_key: bytes) -> Manifest:
    """The manifest, when `signature` (base64) over its exact bytes is our server's."""
    try:
        plain = base64.b64decode(signature.strip(), validate=True)
    except ValueError as exc:
        raise ImageSignature("the image's signature is not base64", detail=repr(signature[:80])) from exc
    if not ed25519.verify(public_key, raw, plain):
        raise ImageSignature(
            "the image manifest is not signed by this server's key",
            detail=f"key in the ramdisk: {public_key.hex()}, signature: {signature.decode('latin-1').strip()[:100]}",
            fix="sign it again: baremetal image verify; if the key was replaced, boot the node again",
            key=public_key.hex(),
        )
    return parse(raw)


def parse(raw: bytes) -> Manifest:
    """ImageManifest for whatever does not add up."""
    try:
        doc = json.loads(raw)
        chunks = [_chunk(c) for c in doc["chunks"]]
        manifest = Manifest(
            id=str(doc["id"]),
            name=str(doc.get("name", "")),
            raw_size=_count(doc["raw_size"]),
            chunk_size=_count(doc["chunk_size"]),
            zst_size=_count(doc["zst_size"]),
            chunks=chunks,
            properties=dict(doc.get("properties") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise ImageManifest("the image manifest is malformed", detail=f"{type(exc).__name__}: {exc}") from exc
    _check(manifest)
    return manifest


def _chunk(doc: Any) -> Chunk:
    """{"offset", "zsize", "sha256"}; zeros are null, "zero", or zsize 0."""
    if doc is None or doc == "zero" or (isinstance(doc, dict) and not doc.get("zsize")):
        return Chunk(0, 0, "")
    sha256 = str(doc["sha256"]).rpartition(":")[2].lower()
    if len(sha256) != 64:
        raise ValueError("sha256 has not 64 digits")
    return Chunk(_count(doc["offset"]), _count(doc["zsize"]), sha256)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value > 1 << 62:
        raise ValueError(f"{value!r} is no size")
    return value


def _check(m: Manifest) -> None:
    if not MIN_CHUNK <= m.chunk_size <= MAX_CHUNK or m.chunk_size % 4096:
        raise ImageManifest(
            f"chunks of {m.chunk_size} bytes", detail=f"from {MIN_CHUNK} to {MAX_CHUNK}, in steps of 4096"
        )
    wanted = -(-m.raw_size // m.chunk_size)
    if m.raw_size == 0 or len(m.chunks) != wanted or wanted > MAX_CHUNKS:
        raise ImageManifest(f"{len(m.chunks)} chunks for {m.raw_size} bytes", detail=f"expected {wanted}")
    bound = m.chunk_size + m.chunk_size // 128 + 1024  # ZSTD_compressBound, generously
    at = 0
    for n, chunk in enumerate(m.chunks):
        if not chunk.zsize:
            continue
        if chunk.offset < at or chunk.zsize > bound:
            raise ImageManifest(
                f"chunk {n} lies at {chunk.offset} with {chunk.zsize} bytes",
                detail=f"expected at {at} or later, at most {bound}",
            )
        at = chunk.offset + chunk.zsize
    if at > m.zst_size:
        raise ImageManifest(f"the chunks end at byte {at}, the file at {m.zst_size}")
