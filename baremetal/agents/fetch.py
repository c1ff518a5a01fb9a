"""Brings the image's frames in order over HTTP, going on where a broken connection stopped."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from baremetal.agents.http import BadAnswer, Client, ServerSaid, ServerUnreachable, Stream, Url, jitter
from baremetal.agents.manifest import Manifest
from baremetal.agents.trouble import DownloadFailed, ImageChunkCorrupt, ImageTruncated
from baremetal.errors import BaremetalError

Connect = Callable[[str], Client]
STALL_S = 30.0  # no byte for so long: connect again
GIVE_UP_S = 180.0  # no progress for so long: download-failed
SKIP = 256 * 1024  # bytes; a gap up to here is cheaper read than asked around
CORRUPT_TRIES = 3  # a frame that is wrong so often is wrong at the server


class Frames:
    """Iterates over (number of chunk, verified compressed frame). Holds one frame at a time.

    `connect(url)` makes a Client for the URL's server. Every frame's SHA-256 is
    checked here, before anyone decompresses it. `resumed` counts reconnections.
    Of several URLs the next is asked when one breaks off; one that has other
    bytes than the manifest says is not asked again.
    """

    def __init__(
        self,
        url: Union[str, List[str]],
        manifest: Manifest,
        connect: Connect,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        give_up_s: float = GIVE_UP_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._urls = [url] if isinstance(url, str) else list(url)
        self._url = self._urls[0]
        self._manifest = manifest
        self._connect = connect
        self._client = connect(self._url)
        self._stream: Optional[Stream] = None
        self._at = 0  # where the open stream stands in the file
        self._sleep, self._clock = sleep, clock
        self._give_up_s, self._stall_s = give_up_s, stall_s
        self._etag = ""
        self.resumed = 0
        self.received = 0  # bytes off the wire

    def __iter__(self) -> Iterator[Tuple[int, bytearray]]:
        try:
            for n, chunk in enumerate(self._manifest.chunks):
                if chunk.zsize:
                    yield n, self._frame(n)
        finally:
            self.close()

    def close(self) -> None:
        self._drop()
        self._client.close()

    def _frame(self, n: int) -> bytearray:
        """The bytes of chunk n, asked for again when they are wrong."""
        chunk = self._manifest.chunks[n]
        tries = 0
        while True:
            data = self._read(chunk.offset, chunk.zsize)
            found = hashlib.sha256(data).hexdigest()
            if found == chunk.sha256:
                return data
            self._drop()
            self.resumed += 1
            tries += 1
            if tries == CORRUPT_TRIES:
                if not self._strike():
                    raise self._corrupt(n, found)
                tries = 0

    def _corrupt(self, n: int, found: str) -> ImageChunkCorrupt:
        chunk = self._manifest.chunks[n]
        return ImageChunkCorrupt(
            f"chunk {n} of the image is damaged ({CORRUPT_TRIES} tries)",
            detail=f"sha256 {found}, the signed manifest says {chunk.sha256};\n"
            f"bytes {chunk.offset}+{chunk.zsize} of {self._url}",
            fix="the stored image is damaged, or someone changes it on the wire: baremetal image verify",
            chunk=n,
            offset=chunk.offset,
            found=found,
            wanted=chunk.sha256,
        )

    def _read(self, start: int, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        done, pause, since = 0, 0.3, self._clock()
        while done < length:
            try:
                self._stand_at(start + done)
                got = self._next(view[done:])
            except (ServerUnreachable, BadAnswer) as exc:
                self._drop()
                if self._clock() - since > self._give_up_s:
                    raise self._failed(exc, start + done) from exc
                self.resumed += 1
                self._elsewhere()
                self._sleep(pause * jitter())
                pause = min(pause * 2, 10.0)
                continue
            except (ImageTruncated, DownloadFailed):
                self._drop()
                if not self._strike():
                    raise
                self.resumed += 1
                continue
            done += got
            pause, since = 0.3, self._clock()
        return data

    def _elsewhere(self) -> None:
        """The next place that has the same bytes, where the order names several."""
        if len(self._urls) > 1:
            self._url = self._urls[(self._urls.index(self._url) + 1) % len(self._urls)]
            self._etag = ""
            self._client.close()
            self._client = self._connect(self._url)

    def _strike(self) -> bool:
        """Ask this place no more and go on at the next; False when it is the last one."""
        if len(self._urls) == 1:
            return False
        wrong = self._url
        self._elsewhere()
        self._urls.remove(wrong)
        return True

    def _stand_at(self, place: int) -> None:
        """Have a stream whose next byte is `place`: over small gaps by reading on, else by a new request."""
        if self._stream is None or not 0 <= place - self._at <= SKIP:
            self._open(place)
        while self._at < place:
            self._next(memoryview(bytearray(min(place - self._at, 64 * 1024))))

    def _next(self, view: memoryview) -> int:
        assert self._stream is not None
        got = self._stream.readinto(view)
        if got == 0:
            raise ServerUnreachable("the image stream ended early")
        self._at += got
        self.received += got
        return got

    def _open(self, start: int) -> None:
        self._drop()
        headers: Dict[str, str] = {"Range": f"bytes={start}-"} if start else {}
        stream = self._client.stream("GET", Url.parse(self._url).target, headers=headers, timeout_s=self._stall_s)
        try:
            self._check(stream, start)
        except BaseException:
            stream.close()
            raise
        self._stream, self._at = stream, start

    def _check(self, stream: Stream, start: int) -> None:
        """The right part of the right file, or a reason."""
        if stream.status in (429, 500, 502, 503, 504):
            raise ServerUnreachable(f"the server answered {stream.status}")
        wanted = 206 if start else 200
        total = _total(stream, start)
        if stream.status == 416 or (total is not None and total < self._manifest.zst_size):
            raise ImageTruncated(
                f"the server's image is {total if total is not None else '?'} bytes long, "
                f"the signed manifest says {self._manifest.zst_size}",
                fix="the stored image is damaged: baremetal image verify, then add it again",
                have=total,
                wanted=self._manifest.zst_size,
                url=self._url,
            )
        begins = stream.headers.get("content-range", "").startswith(f"bytes {start}-")
        if stream.status != wanted or (start and not begins):
            raise self._failed(ServerSaid(stream.status, "", f"the server answered {stream.status}"), start)
        etag = stream.headers.get("etag", "")
        if self._etag and etag != self._etag:
            raise self._failed(ServerSaid(stream.status, "", "the image was replaced while it was sent"), start)
        self._etag = etag

    def _failed(self, exc: BaremetalError, at: int) -> DownloadFailed:
        return DownloadFailed(
            f"the image download stopped at byte {at} of {self._manifest.zst_size}",
            detail=str(exc),
            fix="check the network and the server, then deploy again",
            at=at,
            url=self._url,
            resumed=self.resumed,
        )

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _total(stream: Stream, start: int) -> Optional[int]:
    """Length of the whole file as the answer tells it."""
    content_range = stream.headers.get("content-range", "")
    if stream.status in (206, 416):
        text = content_range.rpartition("/")[2]
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    return stream.length if stream.status == 200 else None


def evidence_of(frames: Frames) -> Dict[str, Any]:
    """Figures for the report."""
    return {"received": frames.received, "resumed": frames.resumed}
