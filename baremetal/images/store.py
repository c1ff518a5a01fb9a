"""The store of golden images: content-addressed, signed, checked. What Glance was to the undercloud.

root/<hex>/{manifest.json, manifest.sig, image.zst, meta.json} for a disk,
{kernel, initrd, pair.sig, meta.json} for a ramdisk. <hex> is the SHA-256 that the image
id names. A directory appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from baremetal.images import chunks, manifest
from baremetal.images.errors import BadImage, ImageCorrupt, ImageInUse, ImageNotFound
from baremetal.images.layers import remove
from baremetal.images.stored import StoredImage as StoredImage
from baremetal.images.stored import file_digest as file_digest
from baremetal.images.stored import pair_text, read, verify_frames
from baremetal.model.image import Manifest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
MAX_DOWNLOAD = 64 << 30  # bytes
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) of the raw disk."""


UsedBy = Callable[[str], Sequence[str]]
"""Names of the nodes that refer to an image id."""


def _silent(done: int, total: int) -> None:
    """No progress wanted."""


def _nobody(image_id: str) -> Sequence[str]:
    """No node is known here."""
    return ()


class ImageStore:
    """Images under one directory. `signing_key` (Ed25519 PEM) signs manifests; without it none can be added."""

    def __init__(self, root: Path, *, signing_key: Path | None = None) -> None:
        self.root = root
        self.signing_key = signing_key
        self._seen: dict[Path, tuple[int, StoredImage]] = {}

    # -- adding --------------------------------------------------------------------------------------------------

    def add(
        self,
        path: Path | BinaryIO,
        *,
        name: str,
        properties: Mapping[str, str] | None = None,
        sha256: str = "",
        firmware: tuple[str, ...] = ("bios", "uefi"),
        extras: Mapping[str, Path] | None = None,
        progress: Progress = _silent,
    ) -> StoredImage:
        """Take in a qcow2 or raw disk (a file, or a stream that is spooled first); same bytes, same id.

        `sha256` is what the given file must hash to. `extras` are kept beside it (sbom, provenance).
        """
        _check_name(name)
        with self._draft() as draft:
            given = path if isinstance(path, Path) else _spool(path, draft / "given")
            if sha256 and file_digest(given) != sha256.lower().removeprefix("sha256:"):
                raise BadImage(f"{name}: not the file that was named", detail=f"wanted sha256 {sha256}")
            size, pieces = chunks.source(given)
            written = chunks.pack(size, pieces, draft / "image.zst", progress)
            (draft / "given").unlink(missing_ok=True)
            text = Manifest(
                id=f"sha256:{written.sha256}",
                name=name,
                raw_size=size,
                chunk_size=chunks.CHUNK,
                zst_size=written.zst_size,
                chunks=written.chunks,
                firmware=firmware,
                min_disk=size,
                created=_now(),
                properties=dict(properties or {}),
            )
            self._write_manifest(draft, text)
            self._copy_extras(draft, extras)
            source = str(given) if isinstance(path, Path) else "stream"
            return self._keep(draft, text.id, name, "disk", dict(properties or {}), source=Path(source).name)

    def add_ramdisk(
        self,
        kernel: Path,
        initrd: Path,
        *,
        name: str,
        properties: Mapping[str, str] | None = None,
        extras: Mapping[str, Path] | None = None,
    ) -> StoredImage:
        """Take in a kernel and ramdisk pair."""
        _check_name(name)
        for what, file in (("kernel", kernel), ("ramdisk", initrd)):
            if not file.is_file():
                raise BadImage(f"{what} {file} is no file", fix="name two files: KERNEL INITRD")
        both = hashlib.sha256((file_digest(kernel) + file_digest(initrd)).encode()).hexdigest()
        with self._draft() as draft:
            shutil.copyfile(kernel, draft / "kernel")
            shutil.copyfile(initrd, draft / "initrd")
            if self.signing_key is not None:
                (draft / "pair.sig").write_text(manifest.sign(pair_text(both), self.signing_key))
            self._copy_extras(draft, extras)
            return self._keep(
                draft, f"sha256:{both}", name, "ramdisk", dict(properties or {}), source=initrd.parent.name
            )

    def _write_manifest(self, draft: Path, text: Manifest) -> None:
        raw = manifest.to_bytes(text)
        if self.signing_key is None:
            raise BadImage("no key to sign the manifest with", fix="baremetal init makes one")
        (draft / "manifest.json").write_bytes(raw)
        (draft / "manifest.sig").write_text(manifest.sign(raw, self.signing_key))

    @staticmethod
    def _copy_extras(draft: Path, extras: Mapping[str, Path] | None) -> None:
        for extra, source in (extras or {}).items():
            shutil.copyfile(source, draft / extra)

    def _keep(
        self,
        draft: Path,
        image_id: str,
        name: str,
        kind: str,
        properties: dict[str, str],
        *,
        source: str,
        created: str = "",
    ) -> StoredImage:
        meta: dict[str, object] = {"id": image_id, "name": name, "kind": kind, "properties": properties}
        target = self.root / image_id.removeprefix("sha256:")
        with self._lock():
            meta |= {"tags": self._known_as(target, name), "source": source, "created": created or _now()}
            (draft / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
            self._release_name(name, image_id)
            for entry in draft.iterdir():
                entry.chmod(0o644)
            draft.chmod(0o755)
            self._give(draft)
            old = self._aside(target, image_id) if target.exists() else None
            os.rename(draft, target)
        if old is not None:
            remove(old)
        return self._load(target)

    def _give(self, draft: Path) -> None:
        """To the owner of the store: what root adds, the server must be able to delete."""
        if os.geteuid() == 0:
            owner = self.root.stat().st_uid
            for path in (draft, *draft.iterdir()):
                os.chown(path, owner, -1, follow_symlinks=False)

    def _known_as(self, directory: Path, name: str) -> list[str]:
        """Tags of the same image that is here already, and the name it had: it keeps answering to them."""
        try:
            before = self._load(directory)
        except (OSError, ImageCorrupt):
            return []
        return sorted({*before.tags, before.name} - {name})

    def _aside(self, directory: Path, image_id: str) -> Path:
        """Another name for an image that goes: nodes may be reading it, and we may be killed."""
        trash = self.root / f".gone-{image_id.removeprefix('sha256:')[:16]}-{os.getpid()}"
        os.rename(directory, trash)
        return trash

    def _release_name(self, name: str, image_id: str) -> None:
        """A name points to the newest image that has it; the older keeps its id."""
        for image in self.list():
            if image.name == name and image.id != image_id:
                self._edit(image, name=f"{name}@{image.hex[:12]}")

    # -- reading -------------------------------------------------------------------------------------------------

    def list(self) -> list[StoredImage]:
        """Every image, by name."""
        found = []
        if self.root.is_dir():
            for path in self.root.iterdir():
                if re.fullmatch(r"[0-9a-f]{64}", path.name):
                    with contextlib.suppress(ImageCorrupt):
                        found.append(self._load(path))
        return sorted(found, key=lambda image: image.name)

    def get(self, ref: str) -> StoredImage:
        """By name, tag, id, or the first digits of an id (8 or more)."""
        images = self.list()
        for image in images:  # an id means that image, whatever others are called
            if ref in (image.id, image.hex):
                return image
        for image in images:
            if ref == image.name or ref in image.tags:
                return image
        short = ref.removeprefix("sha256:")
        if re.fullmatch(r"[0-9a-f]{8,64}", short):
            hits = [image for image in images if image.hex.startswith(short)]
            if len(hits) == 1:
                return hits[0]
        names = ", ".join(image.name for image in images) or "none"
        raise ImageNotFound(f"no image {ref!r}", detail=f"stored: {names}", fix="see: baremetal image list")

    def verify(self, ref: str, public: str = "") -> StoredImage:
        """Check signature (by `public`, 64 hex digits), each frame and the whole; ImageCorrupt says what is wrong."""
        image = self.get(ref)
        if image.manifest is None:
            both = file_digest(image.dir / "kernel") + file_digest(image.dir / "initrd")
            if hashlib.sha256(both.encode()).hexdigest() != image.hex:
                raise ImageCorrupt(f"{image.name}: kernel or ramdisk changed on disk", fix="build and add it again")
            if public and (image.dir / "pair.sig").exists():  # one added by an older version has none
                manifest.check(pair_text(image.hex), (image.dir / "pair.sig").read_text(), public)
            return image
        raw = (image.dir / "manifest.json").read_bytes()
        if public:
            manifest.check(raw, (image.dir / "manifest.sig").read_text(), public)
        verify_frames(image, image.manifest)
        return image

    # -- changing ------------------------------------------------------------------------------------------------

    def delete(self, ref: str, *, used_by: UsedBy = _nobody) -> StoredImage:
        """Remove an image no node refers to. `used_by` answers the names of nodes for an image id."""
        image = self.get(ref)
        users = used_by(image.id)
        if users:
            shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
            raise ImageInUse(f"{image.name} is used by {shown}", fix="deploy another image there first")
        with self._lock():
            trash = self._aside(image.dir, image.id)
        remove(trash)
        return image

    def tag(self, ref: str, *tags: str) -> StoredImage:
        """Give an image tags; a tag names one image, so others lose it."""
        image = self.get(ref)
        for tag in tags:
            _check_name(tag)
        with self._lock():
            for other in self.list():
                if other.id != image.id and set(tags) & set(other.tags):
                    self._edit(other, tags=[tag for tag in other.tags if tag not in tags], edited=_now())
            self._edit(image, tags=sorted({*image.tags, *tags}), edited=_now())
        return self.get(image.id)

    def follow(self, image: StoredImage, tags: Sequence[str], properties: Mapping[str, str], edited: str) -> None:
        """Say of an image what another server says of it."""
        with self._lock():
            self._edit(image, tags=sorted({*tags} - {image.name}), properties=dict(properties), edited=edited)

    def export(self, ref: str, target: Path) -> Path:
        """The raw disk of an image as a sparse file, or the ramdisk pair in a directory."""
        image = self.get(ref)
        if image.manifest is None:
            target.mkdir(parents=True, exist_ok=True)
            for name in ("kernel", "initrd"):
                shutil.copyfile(image.dir / name, target / name)
        else:
            chunks.unpack(image.dir / "image.zst", image.manifest.chunks, image.manifest.raw_size, target)
        return target

    # -- inside --------------------------------------------------------------------------------------------------

    def _edit(self, image: StoredImage, **changes: object) -> None:
        path = image.dir / "meta.json"
        meta = {**json.loads(path.read_text()), **changes}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(meta, indent=1) + "\n")
        os.replace(fresh, path)

    def _load(self, path: Path) -> StoredImage:
        """The image in a directory; read again only when its meta.json changed (the API lists images often)."""
        try:
            stamp = (path / "meta.json").stat().st_mtime_ns
            if self._seen.get(path, (0, None))[0] != stamp:
                self._seen[path] = (stamp, read(path))
            return self._seen[path][1]
        except (OSError, ValueError, KeyError, BadImage) as exc:
            raise ImageCorrupt(f"image {path.name[:12]}: unreadable", detail=str(exc), fix=f"remove {path}") from exc

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """A directory beside the images; what killed adds and deletes left is cleared first."""
        self.root.mkdir(parents=True, exist_ok=True)
        for pattern, place in ((".draft-*", 1), (".gone-*", -1)):
            for old in self.root.glob(pattern):
                if not Path("/proc", old.name.split("-")[place]).exists():
                    remove(old)
        path = Path(tempfile.mkdtemp(prefix=f".draft-{os.getpid()}-", dir=self.root))
        try:
            yield path
        finally:
            remove(path)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadImage(f"bad image name {name!r}", fix="letters, digits, dot, dash, underscore, plus")
    if re.fullmatch(r"[0-9a-f]{64}", name):
        raise BadImage(f"{name[:12]}… is no name: images' ids look so", fix="choose a name that says what it is")


def _spool(stream: BinaryIO, target: Path) -> Path:
    """A stream in a file, so that it can be inspected before it is read."""
    left = MAX_DOWNLOAD
    with open(target, "wb") as out:
        while block := stream.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise BadImage(f"more than {MAX_DOWNLOAD >> 30} GiB came")
            out.write(block)
    return target


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
