"""Decompresses zstd frames by the system's libzstd, through ctypes.

Python 3.11 has no zstd of its own, and a pipe to the zstd program copies every
byte twice more. One frame at a time, into memory the caller owns.
"""

from __future__ import annotations

import ctypes
from typing import Optional

from baremetal.errors import MachineError

_NAMES = ("libzstd.so.1", "libzstd.so")


class BadFrame(ValueError):
    """Not a zstd frame, a damaged one, or one of another size."""


class Decompressor:
    """Keeps one decompression context (about 150 kB and the window)."""

    def __init__(self) -> None:
        self._lib = _load()
        self._context: Optional[int] = self._lib.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError("no memory for a zstd context")

    def close(self) -> None:
        if self._context:
            self._lib.ZSTD_freeDCtx(self._context)
            self._context = None

    def frame(self, source: memoryview, target: memoryview) -> int:
        """Decompress one whole frame (or several in a row) into `target`; bytes written. Never beyond it."""
        src = (ctypes.c_char * len(source)).from_buffer(source)
        dst = (ctypes.c_char * len(target)).from_buffer(target)
        try:
            result: int = self._lib.ZSTD_decompressDCtx(self._context, dst, len(target), src, len(source))
        finally:
            del src, dst  # they hold the buffers
        if self._lib.ZSTD_isError(result):
            raise BadFrame(self._lib.ZSTD_getErrorName(result).decode("ascii", "replace"))
        return result


def _load() -> ctypes.CDLL:
    for name in _NAMES:
        try:
            lib = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        raise MachineError("libzstd is missing", fix="apt install libzstd1")
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    lib.ZSTD_createDCtx.restype = pointer
    lib.ZSTD_freeDCtx.argtypes = [pointer]
    lib.ZSTD_decompressDCtx.restype = size
    lib.ZSTD_decompressDCtx.argtypes = [pointer, pointer, size, pointer, size]
    lib.ZSTD_isError.argtypes = [size]
    lib.ZSTD_getErrorName.argtypes = [size]
    lib.ZSTD_getErrorName.restype = ctypes.c_char_p
    return lib
