"""The lease journal: one line per lease, appended and synced before the reply leaves.

    <key hex> <address hex> <expires hex seconds> <crc32 of the rest, hex>

Whatever a crash or a full disk leaves behind, reading never fails: a line
whose checksum is wrong is counted and skipped. Compacted at start and when it
has grown to several times the leases it holds, by rename.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from baremetal.wire.dhcp4.leases import Lease

GROWS_BY = 8  # lines per live lease before the file is rewritten
SMALL = 10_000  # lines that are never worth rewriting


class LeaseJournal:
    """Append-only file of leases. `broken` counts unreadable lines of the last `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = 0
        self._lines = 0
        self._fd = -1
        self._size = 0

    def read(self) -> Iterator[tuple[bytes, int, float]]:
        """(key, address, expires) in the order written; expires 0: given back."""
        self.broken = self._lines = 0
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return
        for line in raw.splitlines():
            self._lines += 1
            entry = _decode(line)
            if entry is None:
                self.broken += 1
            else:
                yield entry

    def open(self) -> None:
        """Ready to append. A torn last line of a crash is ended, so that the next one stands alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")

    def append(self, leases: Iterable[Lease]) -> None:
        """Durable when it returns. OSError: nothing of it counts, and the file is as before."""
        lines = [_encode(lease.key, lease.ip, lease.expires) for lease in leases]
        data = b"".join(lines)
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(28, "the lease journal could not be written whole", str(self.path))
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self._lines += len(lines)

    def overgrown(self, leases: int) -> bool:
        return self._lines > SMALL and self._lines > GROWS_BY * leases

    def postpone(self) -> None:
        """Rewriting failed: count from here."""
        self._lines = 0

    def compact(self, leases: Iterable[Lease]) -> None:
        """Rewrite with these leases only, by rename: a crash leaves the old file or the new one."""
        lines = [_encode(lease.key, lease.ip, lease.expires) for lease in leases]
        new = self.path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            new.unlink(missing_ok=True)
            raise
        os.replace(new, self.path)
        _sync_directory(self.path.parent)
        self.close()
        self.open()
        self._lines = len(lines)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _encode(key: bytes, ip: int, expires: float) -> bytes:
    body = f"{key.hex()} {ip:x} {int(expires):x}".encode()
    return b"%b %x\n" % (body, zlib.crc32(body))


def _decode(line: bytes) -> tuple[bytes, int, float] | None:
    body, _, crc = line.rpartition(b" ")
    try:
        if int(crc, 16) != zlib.crc32(body):
            return None
        key, ip, expires = body.split(b" ")
        return bytes.fromhex(key.decode()), int(ip, 16), float(int(expires, 16))
    except ValueError:
        return None


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
