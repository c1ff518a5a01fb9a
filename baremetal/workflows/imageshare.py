"""The images of a site with several servers: each says in the database what it has, and fetches what it lacks.

A name means the newest image of that name on any living server, so that all deploy the same. An image that was
deleted goes from every server (imagegone.py); one that was removed from this server's directory by hand is not
fetched again, until a deploy on it needs it. Tags and properties are those that were changed last.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baremetal.errors import BaremetalError, NotFound
from baremetal.images.peer import Known, Place, Trust, fetch
from baremetal.images.store import ImageStore
from baremetal.images.stored import StoredImage
from baremetal.model.image import Manifest
from baremetal.store import Store, records, servers
from baremetal.workflows import imagegone
from baremetal.workflows.imagehere import ImageElsewhere

log = logging.getLogger(__name__)

KIND = "images-of-server"
LOOK_S = 3.0
AGAIN_S = 30.0  # after a fetch that failed
FORMERLY = ".formerly"  # ids this server had: what of them is not here now was deleted here


class GivenUp(BaremetalError):
    """The server stops."""


@dataclass(frozen=True)
class AwayImage:
    """An image that this server does not have yet."""

    known: Known
    on: tuple[str, ...]  # names of the servers that have it
    manifest: Manifest | None
    dir: str = ""

    id = property(lambda self: self.known.id)
    name = property(lambda self: self.known.name)
    kind = property(lambda self: self.known.kind)
    properties = property(lambda self: self.known.properties)
    created = property(lambda self: self.known.created)
    tags = property(lambda self: self.known.tags)
    size = property(lambda self: self.known.size)


Everywhere = list[tuple[StoredImage | AwayImage, tuple[str, ...]]]


class SharedImages:
    """What `ImageStore` is for one server. `await keep()` runs for ever; `places(url)` are a server's addresses."""

    def __init__(
        self,
        local: ImageStore,
        store: Store,
        me: str,
        trust: Trust,
        places: Callable[[str], Place],
    ) -> None:
        self._local, self._store, self._me = local, store, me
        self._trust, self._places = trust, places
        self._away: dict[str, tuple[AwayImage, tuple[str, ...]]] = {}  # hex -> (image, https URLs)
        self._wanted: set[str] = set()
        self._progress: dict[str, tuple[int, int]] = {}
        self._failed: dict[str, tuple[float, BaremetalError]] = {}
        self._soon = asyncio.Event()
        self._told = ""
        # What we said that we have, and when it was added; None: as the database remembers it.
        self._announced: dict[str, str] | None = None
        self._holders: dict[str, tuple[str, ...]] = {}  # hex -> other servers that have it

    # -- as ImageStore ---------------------------------------------------------

    def list(self) -> list[StoredImage]:
        """What is here."""
        return self._local.list()

    def get(self, ref: str) -> StoredImage | AwayImage:
        """By name, tag or id. A name means the newest image of it, here or elsewhere."""
        elsewhere = [image for image, _ in self._away.values() if _means(ref, image)]
        try:
            here = self._local.get(ref)
        except NotFound:
            if not elsewhere:
                raise
            return max(elsewhere, key=lambda image: image.created)
        newer = [i for i in elsewhere if i.name == ref and here.name == ref and i.created > here.created]
        return max(newer, key=lambda image: image.created) if newer else here

    def everywhere(self) -> Everywhere:
        """Every image of the site, by name, with the names of the servers that have it."""
        found: Everywhere = [
            (image, tuple(sorted((self._me, *self._holders.get(image.hex, ()))))) for image in self._local.list()
        ]
        found += [(image, image.on) for image, _ in self._away.values()]
        return sorted(found, key=lambda item: item[0].name)

    def delete(self, ref: str) -> None:
        """From this server's directory, if it is there."""
        with contextlib.suppress(NotFound):
            self._local.delete(ref)
        self._soon.set()

    def need(self, image: Any) -> None:
        """ImageElsewhere unless it is here; then it is fetched first."""
        if not isinstance(image, AwayImage):
            return
        self._wanted.add(image.known.hex)
        self._soon.set()
        where = ", ".join(image.on)
        failed = self._failed.get(image.known.hex)
        if failed:
            error = ImageElsewhere(
                f"image {image.name} is on {where}, and cannot be fetched from there: {failed[1].brief}",
                detail=failed[1].detail,
                fix=f"{failed[1].fix}; or copy {image.known.hex[:12]}… of its images directory to this server",
            )
            error.failed = True
            raise error
        have, size = self._progress.get(image.known.hex, (0, image.known.size))
        raise ImageElsewhere(
            f"image {image.name} comes from {where}: {have >> 20} of {size >> 20} MiB",
            fix="nothing to do: the deploy begins when it is here",
        )

    # -- with the other servers --------------------------------------------------

    async def keep(self, changed: Callable[[], None] = lambda: None) -> None:
        """For ever: say what we have, hear what others have, fetch what we lack; then `changed` is called."""
        while True:
            self._soon.clear()  # before looking: what is asked for meanwhile is looked for at once
            try:
                await self._tell()
                await self._hear()
                if await self._fetch_one():
                    changed()
                    continue
            except BaremetalError as exc:
                log.warning("images of the other servers: %s", exc.brief)
            except Exception:
                log.exception("images of the other servers")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._soon.wait()

    async def _tell(self) -> None:
        """Say what we have, once what was deleted elsewhere is gone from here too."""
        await self._drop_deleted()
        images = await asyncio.to_thread(self._local.list)
        mine = [_known(image) for image in images]
        self._announced = {image.hex: image.created for image in images}
        _remember(self._local.root, self._announced)
        doc = {"images": mine, "edited": {image.hex: image.edited for image in images}}
        text = json.dumps(doc, sort_keys=True)
        if text != self._told:
            await self._store.write(lambda c: records.put(c, KIND, self._me, doc, servers.now(c)))
            self._told = text

    async def _drop_deleted(self) -> None:
        gone, row = await self._store.fetch(lambda c: (imagegone.remembered(c), records.find(c, KIND, self._me)))
        if self._announced is None:
            said = [_away(doc, self._me).known for doc in (row.doc["images"] if row else ())]
            self._announced = {known.hex: known.created for known in said}
        _forget(self._local.root, gone)
        for image in [image for image in self._local.list() if image.hex in gone]:
            if self._announced.get(image.hex) == image.created:
                log.info("image %s (%s…) was deleted on %s", image.name, image.hex[:12], gone[image.hex].get("server"))
                await asyncio.to_thread(self._local.delete, image.id)
            else:  # it was added here since, perhaps while this server was down
                await self._store.write(functools.partial(imagegone.take_back, hex_id=image.hex))

    async def _hear(self) -> None:
        rows, lives, gone = await self._store.fetch(
            lambda c: (records.of_kind(c, KIND), servers.alive(c), imagegone.remembered(c))
        )
        urls = {life.name: tuple(life.urls) for life in lives if life.name != self._me}
        here = {image.hex: image for image in self._local.list()}
        found: dict[str, tuple[AwayImage, tuple[str, ...]]] = {}
        holders: dict[str, tuple[str, ...]] = {}
        for row in rows:
            for doc in row.doc.get("images", []) if row.name in urls else []:
                image = _away(doc, row.name)
                hex_id = image.known.hex
                if hex_id in gone:
                    continue
                holders[hex_id] = (*holders.get(hex_id, ()), row.name)
                if hex_id in here:
                    self._follow(here[hex_id], image.known, str(row.doc.get("edited", {}).get(hex_id, "")))
                elif before := found.get(hex_id):
                    both = AwayImage(before[0].known, (*before[0].on, row.name), before[0].manifest)
                    found[hex_id] = (both, (*before[1], *urls[row.name]))
                else:
                    found[hex_id] = (image, urls[row.name])
        self._away, self._holders = found, holders

    def _follow(self, mine: StoredImage, theirs: Known, edited: str) -> None:
        """Tags and properties are those that were changed last, here or there."""
        tags = sorted({*theirs.tags, theirs.name} - {mine.name})
        if (edited, tags) > (mine.edited, sorted(mine.tags)) and (tags, theirs.properties) != (
            sorted(mine.tags),
            mine.properties,
        ):
            self._local.follow(mine, tags, theirs.properties, edited)

    async def _fetch_one(self) -> bool:
        """The next image that is lacking; False when there is none to fetch now."""
        now = asyncio.get_running_loop().time()
        formerly = _formerly(self._local.root)
        for hex_id, (image, urls) in sorted(self._away.items(), key=lambda item: item[0] not in self._wanted):
            if hex_id in formerly and hex_id not in self._wanted:
                continue
            if self._failed.get(hex_id, (0.0, None))[0] > now - AGAIN_S and hex_id in self._failed:
                continue
            await self._fetch(image, urls)
            return True
        return False

    async def _fetch(self, image: AwayImage, urls: Sequence[str]) -> None:
        known, given_up = image.known, threading.Event()

        def progress(done: int, total: int) -> None:
            if given_up.is_set():
                raise GivenUp(f"image {known.name} is not fetched to its end")
            self._progress[known.hex] = (done, total)

        places = [self._places(url) for url in urls]
        log.info("image %s (%s…) is fetched from %s", known.name, known.hex[:12], ", ".join(image.on))
        try:
            await asyncio.to_thread(fetch, self._local, known, places, self._trust, progress)
        except asyncio.CancelledError:
            given_up.set()  # the server stops; the thread would hold it up
            raise
        except BaremetalError as exc:
            log.warning("image %s cannot be fetched: %s %s", known.name, exc.brief, exc.detail)
            self._failed[known.hex] = (asyncio.get_running_loop().time(), exc)
            return
        finally:
            self._progress.pop(known.hex, None)
        log.info("image %s (%s…) is here", known.name, known.hex[:12])
        self._failed.pop(known.hex, None)
        self._wanted.discard(known.hex)
        self._away.pop(known.hex, None)


def _means(ref: str, image: AwayImage) -> bool:
    short = ref.removeprefix("sha256:")
    return ref in (image.name, image.id, image.known.hex, *image.tags) or (
        len(short) >= 8 and image.known.hex.startswith(short)
    )


def _known(image: StoredImage) -> dict[str, Any]:
    doc = asdict(Known(image.id, image.name, image.kind, image.size, image.created, image.properties, image.tags))
    if image.manifest:
        doc["manifest"] = {**asdict(image.manifest), "chunks": []}
    return doc


def _away(doc: Mapping[str, Any], server: str) -> AwayImage:
    more = doc.get("manifest")
    text = Manifest(**{**more, "chunks": (), "firmware": tuple(more["firmware"])}) if more else None
    values = {k: v for k, v in doc.items() if k != "manifest"}
    return AwayImage(Known(**{**values, "tags": tuple(values["tags"])}), (server,), text)


def _formerly(root: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set((root / FORMERLY).read_text().split())
    return set()


def _remember(root: Path, now_here: Iterable[str]) -> None:
    before = _formerly(root)
    _note(root, before, before | set(now_here))


def _forget(root: Path, gone: Iterable[str]) -> None:
    """Deleted everywhere, and perhaps added again later: not by hand and here."""
    before = _formerly(root)
    _note(root, before, before - set(gone))


def _note(root: Path, before: set[str], after: set[str]) -> None:
    if after != before:
        with contextlib.suppress(OSError):
            (root / FORMERLY).write_text("\n".join(sorted(after)) + "\n")
