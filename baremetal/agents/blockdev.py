"""A disk opened for writing: aligned writes, zeroing, discard, flush; regular files too.

Writes go past the page cache where the disk allows it (O_DIRECT): errors come
at the very write that failed, memory stays bounded, and the last flush is short.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from typing import Any, Dict, List, Tuple

from baremetal.agents.trouble import DiskIo, DiskReadOnly, DiskRefused, NodeTrouble

# linux/fs.h
BLKROGET = 0x125E
BLKRRPART = 0x125F
BLKFLSBUF = 0x1261
BLKSSZGET = 0x1268
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F
BLKGETSIZE64 = 0x80081272
MIB = 1024 * 1024


class Target:
    """One disk. Use as a context manager; every failure is a NodeTrouble that names the place."""

    def __init__(self, path: str, *, write: bool = True, exclusive: bool = True) -> None:
        self.path = path
        self._fd = _open(path, write, exclusive)
        try:
            self.is_block = stat.S_ISBLK(os.fstat(self._fd).st_mode)
            self.size, self.sector = self._geometry()
            if write and self._is_read_only():
                raise DiskReadOnly(f"{path} is write-protected", fix="check its switch or controller", disk=path)
            self.direct = self._go_direct() if write else False
        except BaseException:
            os.close(self._fd)
            raise
        self._zeros = mmap.mmap(-1, MIB)
        self._zero_ioctl = self.is_block

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, offset: int, data: memoryview) -> None:
        """All of `data` at `offset`. With `direct`: page-aligned memory, whole sectors."""
        done = 0
        while done < len(data):
            try:
                done += os.pwritev(self._fd, [data[done:]], offset + done)
            except OSError as exc:
                if exc.errno == errno.EINVAL and self.direct:
                    self._buffered()
                    continue
                raise self.trouble(exc, "write", offset + done) from exc

    def write_bytes(self, offset: int, data: bytes) -> None:
        """Any bytes anywhere: the sectors around them are read first."""
        first = offset - offset % 4096
        last = min(-(-(offset + len(data)) // 4096) * 4096, max(self.size, offset + len(data)))
        around = bytearray(self.read(first, last - first)) if (first, last) != (offset, offset + len(data)) else None
        with mmap.mmap(-1, max(last - first, 1)) as page:
            if around is not None:
                page[: len(around)] = bytes(around)
            page[offset - first : offset - first + len(data)] = data
            with memoryview(page) as view:
                self.write(first, view)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes (fewer at the end of the disk)."""
        start = offset - offset % 4096
        span = -(-(offset + length - start) // 4096) * 4096
        with mmap.mmap(-1, span) as page:
            with memoryview(page) as view:
                got = self._read_into(start, view, span)
            return page[offset - start : min(offset - start + length, got)]

    def _read_into(self, start: int, view: memoryview, span: int) -> int:
        got = 0
        while got < span:
            try:
                n = os.preadv(self._fd, [view[got:]], start + got)
            except OSError as exc:
                if exc.errno == errno.EINVAL and self.direct:
                    self._buffered()
                    continue
                raise self.trouble(exc, "read", start + got) from exc
            if n == 0:
                break
            got += n
        return got

    def zero(self, offset: int, length: int, step: int = 64 * MIB) -> None:
        """Make a range read as zeros: by the disk itself where it can, else by writing them."""
        while length > 0:
            part = min(length, step)
            if not (self._zero_ioctl and self._ioctl_range(BLKZEROOUT, offset, part, "zero")):
                self._zero_ioctl = False
                self._write_zeros(offset, part)
            offset += part
            length -= part

    def _write_zeros(self, offset: int, length: int) -> None:
        with memoryview(self._zeros) as zeros:
            for at in range(0, length, MIB):
                self.write(offset + at, zeros[: min(MIB, length - at)])

    def discard(self, offset: int, length: int) -> bool:
        """Tell the disk these bytes are not needed. False when it has no such command. Proves nothing."""
        return self.is_block and self._ioctl_range(BLKDISCARD, offset, length, "discard")

    def sync(self) -> None:
        """Everything on stable storage, or DiskIo."""
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise self.trouble(exc, "flush", 0) from exc

    def drop_cache(self) -> None:
        """Forget what the page cache holds, so that reads come from the disk."""
        try:
            if self.is_block:
                fcntl.ioctl(self._fd, BLKFLSBUF)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass  # an optimisation of the proof, not the proof

    def reread_partitions(self) -> bool:
        """Ask the kernel to read the partition table again; False while a partition is in use."""
        if not self.is_block:
            return True
        try:
            fcntl.ioctl(self._fd, BLKRRPART)
        except OSError:
            return False
        return True

    def trouble(self, exc: OSError, what: str, offset: int) -> NodeTrouble:
        """The NodeTrouble for an OSError of this disk."""
        evidence: Dict[str, Any] = {"disk": self.path, "offset": offset}
        evidence["errno"] = errno.errorcode.get(exc.errno or 0, str(exc.errno))
        if exc.errno in (errno.EROFS, errno.EPERM, errno.EACCES) and what != "read":
            return DiskReadOnly(f"{self.path} is write-protected", detail=str(exc), **evidence)
        if exc.errno in (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM) or self._gone():
            brief = f"{self.path} vanished during {what}"
        else:
            brief = f"{self.path}: {what} failed at byte {offset}"
        return DiskIo(
            brief,
            detail=f"{exc.strerror} ({evidence['errno']})",
            fix="replace the drive or check its cable",
            **evidence,
        )

    def _gone(self) -> bool:
        """A disk that was pulled has no size any more: what it says then may be any error, ENOSPC for one."""
        try:
            return self.is_block and self._geometry()[0] != self.size
        except OSError:
            return True

    def _ioctl_range(self, request: int, offset: int, length: int, what: str) -> bool:
        try:
            fcntl.ioctl(self._fd, request, struct.pack("QQ", offset, length))
        except OSError as exc:
            if exc.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                return False
            raise self.trouble(exc, what, offset) from exc
        return True

    def _geometry(self) -> Tuple[int, int]:
        if not self.is_block:
            return os.fstat(self._fd).st_size, 512
        size = struct.unpack("Q", fcntl.ioctl(self._fd, BLKGETSIZE64, bytes(8)))[0]
        return size, struct.unpack("i", fcntl.ioctl(self._fd, BLKSSZGET, bytes(4)))[0]

    def _is_read_only(self) -> bool:
        """The kernel opens a write-protected disk for writing all the same, and fails later."""
        return self.is_block and bool(struct.unpack("i", fcntl.ioctl(self._fd, BLKROGET, bytes(4)))[0])

    def _go_direct(self) -> bool:
        try:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return False
        return True

    def _buffered(self) -> None:
        """Some drivers take O_DIRECT and then refuse the alignment: go on through the cache."""
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self.direct = False


def _open(path: str, write: bool, exclusive: bool) -> int:
    """O_EXCL on a block device: refused while it, or a partition of it, is mounted or part of an array."""
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
    try:
        if exclusive and write and stat.S_ISBLK(os.stat(path).st_mode):
            flags |= os.O_EXCL
        return os.open(path, flags)
    except OSError as exc:
        name = errno.errorcode.get(exc.errno or 0, "")
        evidence: Dict[str, Any] = {"disk": path, "errno": name}
        if exc.errno == errno.EBUSY:
            brief, fix = f"{path} is in use (mounted, or part of an array)", "stop the array or unmount it first"
            raise DiskRefused(brief, detail=str(exc), fix=fix, **evidence) from exc
        if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            fix = "check the write-protect switch or the RAID controller"
            raise DiskReadOnly(f"{path} is write-protected", detail=str(exc), fix=fix, **evidence) from exc
        fix = "check the drive and its cable"
        raise DiskIo(f"{path} cannot be opened", detail=f"{exc.strerror} ({name})", fix=fix, **evidence) from exc


def partitions(sys: str, name: str) -> List[Tuple[str, int, int]]:
    """(name, first byte, length) of each partition the kernel knows on the disk `name`."""
    base = os.path.join(sys, "block", name)
    found: Dict[str, Tuple[str, int, int]] = {}
    for entry in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        if os.path.exists(f"{base}/{entry}/partition"):
            with open(f"{base}/{entry}/start") as start, open(f"{base}/{entry}/size") as size:
                found[entry] = (entry, int(start.read()) * 512, int(size.read()) * 512)
    return list(found.values())
