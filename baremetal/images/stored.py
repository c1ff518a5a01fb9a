"""One image as it lies in the store: its directory, what is known about it, whether its bytes are whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images import manifest
from baremetal.images.errors import ImageCorrupt
from baremetal.model.image import Manifest


@dataclass(frozen=True)
class StoredImage:
    """One image in the store. `kind` is disk or ramdisk; a ramdisk has no manifest."""

    id: str
    name: str
    kind: str
    dir: Path
    manifest: Manifest | None
    properties: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    created: str = ""
    source: str = ""
    edited: str = ""  # when its tags or properties were changed last; `created` when never

    @property
    def hex(self) -> str:
        return self.id.removeprefix("sha256:")

    @property
    def size(self) -> int:
        """Bytes on disk and on the wire."""
        names = ("image.zst", "kernel", "initrd")
        return sum((self.dir / name).stat().st_size for name in names if (self.dir / name).exists())


def read(path: Path) -> StoredImage:
    """The image in a directory; OSError, ValueError, KeyError or BadImage when it is none."""
    meta = json.loads((path / "meta.json").read_text())
    text = manifest.from_bytes((path / "manifest.json").read_bytes()) if meta["kind"] == "disk" else None
    return StoredImage(
        id=meta["id"],
        name=meta["name"],
        kind=meta["kind"],
        dir=path,
        manifest=text,
        properties=meta.get("properties", {}),
        tags=tuple(meta.get("tags", ())),
        created=meta.get("created", ""),
        source=meta.get("source", ""),
        edited=meta.get("edited") or meta.get("created", ""),
    )


def verify_frames(image: StoredImage, text: Manifest) -> None:
    """ImageCorrupt unless each frame and the whole file are what the manifest says."""
    total = hashlib.sha256()
    with open(image.dir / "image.zst", "rb") as file:
        for index, chunk in enumerate(text.chunks):
            end = text.chunks[index + 1].offset if index + 1 < len(text.chunks) else text.zst_size
            frame = file.read(end - chunk.offset)
            total.update(frame)
            if hashlib.sha256(frame).hexdigest() != chunk.sha256:
                raise ImageCorrupt(
                    f"{image.name}: chunk {index} at byte {chunk.offset} is damaged",
                    fix=f"add the image again; then: baremetal image verify {image.name}",
                )
        if file.read(1):
            raise ImageCorrupt(f"{image.name}: image.zst is longer than its manifest says")
    if total.hexdigest() != image.hex:
        raise ImageCorrupt(f"{image.name}: image.zst is not the file its id names")


def file_digest(path: Path, kind: str = "sha256") -> str:
    """SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def pair_text(digest: str) -> bytes:
    """What is signed of a kernel and ramdisk; `digest` is the id of the pair, 64 hex digits."""
    return f"baremetal kernel and ramdisk {digest}\n".encode()
