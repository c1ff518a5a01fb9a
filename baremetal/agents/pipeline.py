"""Three things at once: the next frame comes off the wire, one is decompressed, one is written."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Generic, Iterable, List, Optional, Tuple, TypeVar

from baremetal.agents.blockdev import Target
from baremetal.agents.manifest import Manifest
from baremetal.agents.sparse import Buffer, SparseWriter
from baremetal.agents.trouble import ImageChunkCorrupt
from baremetal.agents.zstd import BadFrame, Decompressor

BUFFERS = 3  # chunks decompressed at once; with the frames at most about 6 chunks of memory
Frame = Tuple[int, bytearray]
Done = Callable[[int], None]
T = TypeVar("T")


class _Stopped(Exception):
    """The other side of a queue gave up."""


class _Lane(Generic[T]):
    """A bounded queue between two threads; neither side waits once the other has failed."""

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._queue: "queue.Queue[T]" = queue.Queue(size)
        self._stop = stop

    def put(self, item: T) -> None:
        while True:
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                if self._stop.is_set():
                    raise _Stopped from None

    def get(self) -> T:
        while True:
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._stop.is_set():
                    raise _Stopped from None


class Pipeline:
    """Runs frames of a manifest onto a target, except the first `keep` bytes, which it hands back.

    `done(bytes)` is called with the bytes of the disk finished so far and may
    raise to abort.
    """

    def __init__(
        self,
        manifest: Manifest,
        frames: Iterable[Frame],
        target: Target,
        keep: int,
        done: Done,
        head_in_use: bool = False,
    ) -> None:
        self._manifest = manifest
        self._frames = frames
        self._done = done
        self._keep = keep
        self._target = target
        self._head_in_use = head_in_use  # the disk's first bytes hold a table of their own: leave them
        self._stop = threading.Event()
        self._arrived: _Lane[Frame] = _Lane(2, self._stop)
        self._ready: _Lane[Optional[Buffer]] = _Lane(BUFFERS + 1, self._stop)
        self._free: _Lane[Buffer] = _Lane(BUFFERS, self._stop)
        self._error: List[BaseException] = []
        self.writer = SparseWriter(target)
        self.head = b""

    def run(self) -> bytes:
        """Write everything; the kept head. Raises the first trouble of any thread."""
        for _ in range(BUFFERS):
            self._free.put(Buffer(self._manifest.chunk_size))
        threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True) for work in (self._fetch, self._decompress)
        ]
        for thread in threads:
            thread.start()
        self._guard(self._write)
        for thread in threads:
            thread.join()
        if self._error:
            raise self._error[0]
        return self.head

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as exc:
            self._error.append(exc)
            self._stop.set()

    def _fetch(self) -> None:
        for item in self._frames:
            if self._stop.is_set():
                raise _Stopped
            self._arrived.put(item)

    def _decompress(self) -> None:
        engine = Decompressor()
        try:
            for n, chunk in enumerate(self._manifest.chunks):
                self._ready.put(self._inflate(engine, n) if chunk.zsize else None)
        finally:
            engine.close()

    def _inflate(self, engine: Decompressor, n: int) -> Buffer:
        number, frame = self._arrived.get()
        assert number == n, "frames come in the order of the manifest"
        buffer = self._free.get()
        length = self._manifest.length(n)
        try:
            with memoryview(frame) as source, buffer.view[:length] as target:
                got = engine.frame(source, target)
        except BadFrame as exc:
            raise _unpacks_wrong(n, str(exc)) from exc
        if got != length:
            raise _unpacks_wrong(n, f"{got} bytes instead of {length}")
        return buffer

    def _write(self) -> None:
        for n in range(len(self._manifest.chunks)):
            buffer = self._ready.get()
            offset, length = n * self._manifest.chunk_size, self._manifest.length(n)
            skip = self._keep_head(buffer, length) if n == 0 else 0
            if buffer is None:
                self.writer.zeros(offset + skip, length - skip)
            else:
                self.writer.put(offset, buffer, length)
                self._free.put(buffer)
            self._done(offset + length)
        self.writer.flush()

    def _keep_head(self, buffer: Optional[Buffer], length: int) -> int:
        """Take the first bytes out; zeros, or what is there and in use, stand on the disk in their place.

        Gives the bytes at the start that must not be zeroed.
        """
        keep = min(self._keep, length)
        self.head = bytes(keep) if buffer is None else bytes(buffer.view[:keep])
        if buffer is not None:
            buffer.view[:keep] = self._target.read(0, keep) if self._head_in_use else bytes(keep)
        return keep if self._head_in_use else 0


def _unpacks_wrong(n: int, detail: str) -> ImageChunkCorrupt:
    return ImageChunkCorrupt(
        f"chunk {n} of the image does not decompress, though its digest is right",
        detail=detail,
        fix="the image was stored wrong: add it again",
        chunk=n,
    )
