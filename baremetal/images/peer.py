"""Copies an image from another server of the site. Believed is what its id, or the site's signature, proves.

The small files come by TLS from the other server's boot plane, the large one by plain HTTP, as the nodes
get them. What broke off at one server goes on at the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from baremetal.errors import BaremetalError
from baremetal.images import manifest
from baremetal.images.errors import ImageCorrupt
from baremetal.images.store import ImageStore
from baremetal.images.stored import StoredImage, file_digest, pair_text, verify_frames

ANSWER_S = 20.0  # a server that sends nothing for so long is left
MAX_MANIFEST = 64 << 20  # bytes
BLOCK = 1 << 20
FILES = {"disk": ("image.zst",), "ramdisk": ("kernel", "initrd")}
RESERVE = 256 << 20  # bytes that stay free on the images' file system
Progress = Callable[[int, int], None]
"""Called with (bytes here, bytes in all)."""


class PeerFailed(BaremetalError):
    """No server could give the image."""

    code = "image-fetch"


@dataclass(frozen=True)
class Known:
    """An image as another server tells of it. `size`: bytes of its files."""

    id: str
    name: str
    kind: str
    size: int
    created: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def hex(self) -> str:
        return self.id.removeprefix("sha256:")


@dataclass(frozen=True)
class Place:
    """One server's addresses, without a slash at the end."""

    https: str
    http: str


@dataclass(frozen=True)
class Trust:
    """`public`: the key that signs the site's images (64 hex digits); `ca`: the site's certificates (a PEM file)."""

    public: str
    ca: Path


def fetch(store: ImageStore, known: Known, places: Sequence[Place], trust: Trust, progress: Progress) -> StoredImage:
    """The image in our own store. PeerFailed when no place gives it, ImageCorrupt when what came is not it."""
    free = shutil.disk_usage(store.root).free
    if free < known.size + RESERVE:
        raise PeerFailed(
            f"no room for image {known.name}: {known.size >> 20} MiB, {free >> 20} MiB are free",
            fix=f"free space below {store.root}: baremetal image list",
        )
    with store._draft() as draft:
        if known.kind == "disk":
            _fetch_disk(draft, known, places, trust, progress)
        else:
            _fetch_pair(draft, known, places, trust, progress)
        name = _free_name(store, known)
        words = {"source": "another server", "created": known.created}
        return store._keep(draft, known.id, name, known.kind, dict(known.properties), **words)


def _fetch_disk(draft: Path, known: Known, places: Sequence[Place], trust: Trust, progress: Progress) -> None:
    base = f"/images/{known.hex}"
    context = ssl.create_default_context(cafile=str(trust.ca))
    raw = _small([f"{place.https}{base}/manifest.json" for place in places], context)
    signature = _small([f"{place.https}{base}/manifest.sig" for place in places], context)
    manifest.check(raw, signature.decode("ascii", "replace"), trust.public)
    text = manifest.from_bytes(raw)
    if text.id != known.id:
        raise ImageCorrupt(f"{known.name}: the manifest is of another image", detail=text.id, fix="add the image again")
    (draft / "manifest.json").write_bytes(raw)
    (draft / "manifest.sig").write_bytes(signature)
    target = draft / "image.zst"
    _large([f"{place.http}{base}/image.zst" for place in places], target, text.zst_size, progress)
    verify_frames(StoredImage(known.id, known.name, "disk", draft, text), text)


def _fetch_pair(draft: Path, known: Known, places: Sequence[Place], trust: Trust, progress: Progress) -> None:
    context = ssl.create_default_context(cafile=str(trust.ca))
    signature = _small([f"{place.https}/images/{known.hex}/pair.sig" for place in places], context)
    manifest.check(pair_text(known.hex), signature.decode("ascii", "replace"), trust.public)
    (draft / "pair.sig").write_bytes(signature)
    for name in FILES["ramdisk"]:
        urls = [f"{place.http}/images/{known.hex}/{name}" for place in places]
        _large(urls, draft / name, known.size, progress)
    both = hashlib.sha256((file_digest(draft / "kernel") + file_digest(draft / "initrd")).encode()).hexdigest()
    if both != known.hex:
        raise ImageCorrupt(f"{known.name}: what came is not the ramdisk its id names", fix="add it here by hand")


def _free_name(store: ImageStore, known: Known) -> str:
    """Its name, unless a newer image here has it."""
    holder = next((image for image in store.list() if image.name == known.name and image.id != known.id), None)
    return known.name if holder is None or holder.created <= known.created else f"{known.name}@{known.hex[:12]}"


# -- HTTP ------------------------------------------------------------------------------


def _open(url: str, context: ssl.SSLContext | None, first: int = 0) -> IO[bytes]:
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    headers = {"Range": f"bytes={first}-"} if first else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (a server of ours)
    answer: IO[bytes] = urllib.request.build_opener(*handlers).open(request, timeout=ANSWER_S)
    if first and getattr(answer, "status", 206) != 206:
        raise OSError(f"{url}: not the rest, but the whole")
    return answer


def _small(urls: Sequence[str], context: ssl.SSLContext) -> bytes:
    said = "no server has it"
    for url in urls:
        try:
            with _open(url, context) as answer:
                raw = answer.read(MAX_MANIFEST + 1)
            if len(raw) <= MAX_MANIFEST:
                return raw
            said = f"{url}: more than {MAX_MANIFEST >> 20} MiB"
        except (OSError, http.client.HTTPException) as exc:
            said = f"{url}: {exc}"
    raise PeerFailed("the image's manifest cannot be fetched", detail=said, fix="is that server up? It is tried again")


def _large(urls: Sequence[str], target: Path, most: int, progress: Progress) -> None:
    """Into `target`; what came stays when a server goes away, the next gives the rest."""
    said = "no server has it"
    with target.open("wb") as file:
        for url in urls:
            try:
                with _open(url, None, file.tell()) as answer:
                    while block := answer.read(BLOCK):
                        if file.tell() + len(block) > most:
                            raise PeerFailed(f"{url} is larger than the image")
                        file.write(block)
                        progress(file.tell(), most)
                    left = getattr(answer, "length", None)
                if not left:
                    return
                said = f"{url}: broke off"
            except (OSError, http.client.HTTPException) as exc:
                said = f"{url}: {exc}"
    with contextlib.suppress(OSError):
        target.unlink()
    raise PeerFailed(f"{target.name} cannot be fetched", detail=said, fix="is that server up? It is tried again")
