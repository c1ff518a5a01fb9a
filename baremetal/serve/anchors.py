"""What a ramdisk must know of this server, put in front of the ramdisk itself.

Linux unpacks any number of cpio archives laid end to end, each raw or compressed,
at 4-byte boundaries (Documentation/driver-api/early-userspace/buffer-format). So
the ramdisk is built once for everybody, and each site serves
    uncompressed cpio (etc/baremetal/ca.pem, image-signing.pub, order-signing.pub) + the ramdisk's own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

S_IFREG, S_IFDIR = 0o100000, 0o040000


class RamdiskImage(Protocol):
    """What the image store says of one ramdisk."""

    @property
    def id(self) -> str: ...
    @property
    def dir(self) -> Path: ...
    @property
    def properties(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Artifact:
    """One file of the boot plane's tree; `size` in bytes, `sha256` in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Ramdisk:
    """A servable deploy ramdisk: names in the boot plane's tree, kernel arguments it wants."""

    image_id: str
    arch: str
    kernel: str
    initrd: str
    cmdline: str = ""


def cpio(files: Mapping[str, bytes]) -> bytes:
    """A newc archive of these files and their directories, padded to 4 bytes."""
    names = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."})
    parts = [_entry(i, name, S_IFDIR | 0o755, b"") for i, name in enumerate(names, 1)]
    parts += [_entry(1000 + i, name, S_IFREG | 0o644, data) for i, (name, data) in enumerate(sorted(files.items()))]
    return b"".join(parts) + _entry(0, "TRAILER!!!", 0, b"")


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    raw = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 2 if mode & S_IFDIR else 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _pad(header + raw) + _pad(data)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def anchors(ca_pem: bytes, image_public_key: str, order_public_key: str = "") -> bytes:
    """The cpio with this server's trust anchors: its CA, and the keys that sign images and orders."""
    files = {"ca.pem": ca_pem, "image-signing.pub": image_public_key.encode() + b"\n"}
    if order_public_key:
        files["order-signing.pub"] = order_public_key.encode() + b"\n"
    return cpio({f"etc/baremetal/{name}": data for name, data in files.items()})


def compose(image: RamdiskImage, out: Path, prefix: bytes) -> tuple[Ramdisk, dict[str, Artifact]]:
    """Make the files of one ramdisk servable in `out`; done again only when something changed."""
    out.mkdir(parents=True, exist_ok=True)
    stem = image.id.removeprefix("sha256:")[:12]
    kernel, initrd = f"{stem}-vmlinuz", f"{stem}-initrd"
    artifacts = {
        kernel: _place(out / kernel, [image.dir / "kernel"], b""),
        initrd: _place(out / initrd, [image.dir / "initrd"], prefix),
    }
    arch = image.properties.get("arch", "x86_64")
    return Ramdisk(image.id, arch, kernel, initrd, image.properties.get("cmdline", "")), artifacts


def compose_all(
    images: Iterable[RamdiskImage], out: Path, ca_pem: bytes, image_public_key: str, order_public_key: str = ""
) -> tuple[list[Ramdisk], dict[str, Artifact]]:
    """All ramdisks, in the order given; files of ramdisks that are gone are removed."""
    prefix = anchors(ca_pem, image_public_key, order_public_key)
    ramdisks: list[Ramdisk] = []
    artifacts: dict[str, Artifact] = {}
    for image in images:
        ramdisk, files = compose(image, out, prefix)
        ramdisks.append(ramdisk)
        artifacts |= files
    for stale in out.glob("*-*") if out.is_dir() else ():
        if stale.name.removesuffix(".json") not in artifacts:
            stale.unlink()
    return ramdisks, artifacts


def _place(target: Path, sources: list[Path], prefix: bytes) -> Artifact:
    made_of = _fingerprint(sources, prefix)
    note = target.with_name(target.name + ".json")
    known = _known(note, target, made_of)
    if known is not None:
        return known
    temporary = target.with_name(f".{target.name}.new")
    with temporary.open("wb") as sink:
        sink.write(prefix)
        for source in sources:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, sink, 1 << 20)
    with temporary.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    temporary.chmod(0o644)
    artifact = Artifact(str(target), temporary.stat().st_size, digest)
    note.unlink(missing_ok=True)
    temporary.replace(target)
    note.write_text(json.dumps({"made_of": made_of, **asdict(artifact)}))
    return artifact


def _fingerprint(sources: list[Path], prefix: bytes) -> str:
    facts = [f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in sources]
    return hashlib.sha256(prefix + "\n".join(facts).encode()).hexdigest()


def _known(note: Path, target: Path, made_of: str) -> Artifact | None:
    try:
        doc = json.loads(note.read_text())
        if doc.pop("made_of") == made_of and target.stat().st_size == doc["size"]:
            return Artifact(**doc)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # made again below
    return None
