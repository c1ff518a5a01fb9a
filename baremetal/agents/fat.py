"""Which boot loaders lie on an EFI system partition: just enough of FAT to list names. Reads only.

Microsoft FAT specification 1.03. No mount: the ramdisk needs no vfat driver, and nothing is written.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, List, NamedTuple, Optional

MAX_CLUSTERS = 4096  # of one folder
MAX_NAMES = 2000
Read = Callable[[int, int], bytes]  # offset in the partition, length


class Name(NamedTuple):
    """A folder's entry. `start` is its first cluster."""

    name: str
    folder: bool
    start: int


class Fat:
    """A FAT12/16/32 volume; ValueError when it is none."""

    def __init__(self, read: Read) -> None:
        boot = read(0, 512)
        if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
            raise ValueError("no FAT boot sector")
        self._read = read
        self._sector, per, reserved, fats, roots = struct.unpack_from("<HBHBH", boot, 11)
        small, per_fat16, per_fat32, total32 = (
            struct.unpack_from("<H", boot, 19)[0],
            struct.unpack_from("<H", boot, 22)[0],
            struct.unpack_from("<I", boot, 36)[0],
            struct.unpack_from("<I", boot, 32)[0],
        )
        per_fat = per_fat16 or per_fat32
        if self._sector not in (512, 1024, 2048, 4096) or not per or not per_fat or not fats:
            raise ValueError("not a FAT boot sector")
        self._cluster = per * self._sector
        self._fat_at = reserved * self._sector
        self._root_at = self._fat_at + fats * per_fat * self._sector
        self._root_size = roots * 32
        self._data_at = self._root_at + -(-self._root_size // self._sector) * self._sector
        clusters = ((small or total32) * self._sector - self._data_at) // self._cluster
        self._bits = 32 if not per_fat16 else 12 if clusters < 4085 else 16
        self._root = struct.unpack_from("<I", boot, 44)[0] if self._bits == 32 else 0

    def names(self, path: str = "") -> List[Name]:
        """Entries of the folder at `path` (EFI/BOOT), [] when there is none. Case does not count."""
        at: Optional[int] = self._root
        for part in [p for p in path.split("/") if p]:
            assert at is not None
            at = next((n.start for n in self._list(at) if n.folder and n.name.lower() == part.lower()), None)
            if at is None:
                return []
        assert at is not None
        return self._list(at)

    def _list(self, start: int) -> List[Name]:
        raw = self._read(self._root_at, self._root_size) if start == 0 and self._bits < 32 else self._chain(start)
        found: List[Name] = []
        long: Dict[int, str] = {}
        for at in range(0, len(raw) - 31, 32):
            entry = raw[at : at + 32]
            if entry[0] == 0 or len(found) > MAX_NAMES:
                break
            if entry[0] == 0xE5:
                long = {}
            elif entry[11] == 0x0F:
                units = entry[1:11] + entry[14:26] + entry[28:32]
                long[entry[0] & 0x1F] = units.decode("utf-16-le", "replace").partition("\0")[0]
            else:
                if not entry[11] & 0x08 and entry[0] != ord("."):
                    name = "".join(long[n] for n in sorted(long)) or _short(entry)
                    cluster = struct.unpack_from("<H", entry, 20)[0] << 16 | struct.unpack_from("<H", entry, 26)[0]
                    found.append(Name(name, bool(entry[11] & 0x10), cluster))
                long = {}
        return found

    def _chain(self, start: int) -> bytes:
        parts: List[bytes] = []
        at, last = start, {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self._bits]
        while 2 <= at < last and len(parts) < MAX_CLUSTERS:
            parts.append(self._read(self._data_at + (at - 2) * self._cluster, self._cluster))
            at = self._next(at)
        return b"".join(parts)

    def _next(self, at: int) -> int:
        """The cluster behind `at`; 0, an end, where the table is cut short."""
        if self._bits == 32:
            return int.from_bytes(self._read(self._fat_at + at * 4, 4), "little") & 0x0FFFFFFF
        if self._bits == 16:
            return int.from_bytes(self._read(self._fat_at + at * 2, 2), "little")
        pair = int.from_bytes(self._read(self._fat_at + at * 3 // 2, 2), "little")
        return pair >> 4 if at & 1 else pair & 0xFFF


def loader(read: Read, arch: str = "x86_64") -> Optional[str]:
    """The loader firmware should start: a distribution's shim, else its own, else the fallback; None without any."""
    suffix = {"x86_64": "x64", "aarch64": "aa64"}.get(arch, "x64")
    volume = Fat(read)
    for wanted in (f"shim{suffix}.efi", f"grub{suffix}.efi", f"systemd-boot{suffix}.efi"):
        for folder in volume.names("EFI"):
            if not folder.folder or folder.name.lower() == "boot":
                continue
            hit = next((n for n in volume.names(f"EFI/{folder.name}") if n.name.lower() == wanted), None)
            if hit:
                return f"\\EFI\\{folder.name}\\{hit.name}"
    hit = next((n for n in volume.names("EFI/BOOT") if n.name.lower() == f"boot{suffix}.efi"), None)
    return f"\\EFI\\BOOT\\{hit.name}" if hit else None


def _short(entry: bytes) -> str:
    name, extension = (part.decode("cp437", "replace").rstrip() for part in (entry[:8], entry[8:11]))
    return f"{name}.{extension}" if extension else name
