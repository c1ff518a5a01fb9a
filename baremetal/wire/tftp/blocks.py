"""A file as TFTP sends it: DATA packets laid end to end, so that a window is one slice.

The kernel cuts such a slice into datagrams (UDP_SEGMENT), and all clients that
ask with one block size share the pages. Pages are made when first needed, so
an initrd of gigabytes costs no more memory than the pages in use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

PAGE_BLOCKS = 256
DATA = b"\0\3"

Reader = Callable[[int, int], bytes]  # (offset, size) -> bytes of the file


class PageCache:
    """Framed pages of all files, least recently used first out. `limit` in bytes."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self.limit = limit
        self.used = 0
        self._pages: OrderedDict[tuple[object, int, int], bytes] = OrderedDict()

    def get(self, file: object, blksize: int, page: int) -> bytes | None:
        found = self._pages.get((file, blksize, page))
        if found is not None:
            self._pages.move_to_end((file, blksize, page))
        return found

    def put(self, file: object, blksize: int, page: int, framed: bytes) -> None:
        self._pages[(file, blksize, page)] = framed
        self.used += len(framed)
        while self.used > self.limit and len(self._pages) > 1:
            self.used -= len(self._pages.popitem(last=False)[1])


class Blocks:
    """One file at one block size. Blocks count from 1; the last one is shorter than `blksize`, maybe empty."""

    __slots__ = ("_cache", "_first", "_held", "_key", "_page", "_read", "_step", "blksize", "count", "size")

    def __init__(self, key: object, size: int, blksize: int, read: Reader, cache: PageCache) -> None:
        self.size = size
        self.blksize = blksize
        self.count = size // blksize + 1
        self._key = key
        self._read = read
        self._cache = cache
        self._step = blksize + 4
        self._first = self._held = 0
        self._page = b""

    def window(self, first: int, count: int) -> bytes:
        """DATA packets first … first+count-1, end to end. The caller keeps within `count` of the file."""
        at = first - 1 - self._first
        step = self._step
        if at >= 0 and at + count <= self._held:
            return self._page[at * step : (at + count) * step]
        page, at = divmod(first - 1, PAGE_BLOCKS)
        end = at + count
        if end <= PAGE_BLOCKS:
            return self._of(page)[at * step : end * step]
        left = self._of(page)[at * step :]
        return left + self._of(page + 1)[: (end - PAGE_BLOCKS) * step]

    def _of(self, page: int) -> bytes:
        framed = self._cache.get(self._key, self.blksize, page)
        if framed is None:
            framed = self._frame(page)
            self._cache.put(self._key, self.blksize, page, framed)
        self._page = framed
        self._first = page * PAGE_BLOCKS
        self._held = min(PAGE_BLOCKS, self.count - self._first)
        return framed

    def _frame(self, page: int) -> bytes:
        size, first = self.blksize, page * PAGE_BLOCKS
        number = min(PAGE_BLOCKS, self.count - first)
        data = self._read(first * size, number * size)
        parts: list[bytes] = []
        for i in range(number):
            parts.append(DATA + ((first + i + 1) & 0xFFFF).to_bytes(2, "big"))  # block numbers wrap
            parts.append(data[i * size : (i + 1) * size])
        return b"".join(parts)


def netascii(data: bytes) -> bytes:
    """The network form of text: LF becomes CR LF, a bare CR becomes CR NUL (RFC 764, 1350)."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
