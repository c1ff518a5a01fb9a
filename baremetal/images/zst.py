"""zstd frames through the system's libzstd: Python 3.11 has none of its own, and a process per chunk is slow.

libzstd.so.1 is on every Debian machine (dpkg needs it). ctypes releases the
interpreter lock, so chunks compress in parallel threads.
"""

from __future__ import annotations

import ctypes
import functools
import threading

from baremetal.images.errors import BadImage, ToolMissing

_LEVEL, _CONTENT_SIZE, _CHECKSUM = 100, 200, 201  # ZSTD_c_* parameters (zstd.h)
_local = threading.local()


@functools.cache
def _lib() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libzstd.so.1")
    except OSError as exc:
        raise ToolMissing("libzstd.so.1 is not on this machine", fix="apt install libzstd1") from exc
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    lib.ZSTD_createCCtx.restype = pointer
    lib.ZSTD_CCtx_setParameter.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    lib.ZSTD_compress2.argtypes = [pointer, pointer, size, ctypes.c_char_p, size]
    lib.ZSTD_compress2.restype = size
    lib.ZSTD_compressBound.argtypes = [size]
    lib.ZSTD_compressBound.restype = size
    lib.ZSTD_isError.argtypes = [size]
    lib.ZSTD_decompress.argtypes = [pointer, size, ctypes.c_char_p, size]
    lib.ZSTD_decompress.restype = size
    lib.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, size]
    lib.ZSTD_findFrameCompressedSize.restype = size
    return lib


def _context(level: int) -> int:
    contexts: dict[int, int] = _local.__dict__.setdefault("contexts", {})
    if level not in contexts:
        lib = _lib()
        context = lib.ZSTD_createCCtx()
        lib.ZSTD_CCtx_setParameter(context, _LEVEL, level)
        lib.ZSTD_CCtx_setParameter(context, _CONTENT_SIZE, 1)
        lib.ZSTD_CCtx_setParameter(context, _CHECKSUM, 1)
        contexts[level] = context
    return contexts[level]


def compress(data: bytes, level: int = 3) -> bytes:
    """One independent frame with content size and checksum."""
    lib = _lib()
    room = lib.ZSTD_compressBound(len(data))
    out = ctypes.create_string_buffer(room)
    size = lib.ZSTD_compress2(_context(level), out, room, data, len(data))
    if lib.ZSTD_isError(size):
        raise BadImage("zstd could not compress a chunk")
    return out.raw[:size]


def decompress(frame: bytes, size: int) -> bytes:
    """The bytes of one frame, which may be followed by others' bytes; at most `size`."""
    lib = _lib()
    length = lib.ZSTD_findFrameCompressedSize(frame, len(frame))
    if lib.ZSTD_isError(length):
        raise BadImage("not a zstd frame, or cut short")
    out = ctypes.create_string_buffer(size)
    got = lib.ZSTD_decompress(out, size, frame, length)
    if lib.ZSTD_isError(got):
        raise BadImage("a zstd frame is damaged, or larger than it may be")
    return out.raw[:got]
