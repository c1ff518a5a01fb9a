"""UEFI boot entries through efivarfs: ours first, nobody else's touched, no copies of ours left behind.

UEFI 2.10 §3.1.3 load options, §10.3.5.1 hard drive media device path, §10.3.5.4 file path; Linux
Documentation/filesystems/efivarfs.rst (four bytes of attributes come before the data).
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import uuid
from typing import Any, Dict, List, NamedTuple, Optional

from baremetal.agents import gpt
from baremetal.agents.trouble import BootEntryFailed

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
ATTRIBUTES = struct.pack("<I", 7)  # non-volatile, boot service, run time
ACTIVE = 1
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
FALLBACK = "\\EFI\\BOOT\\BOOTX64.EFI"
LABEL = "baremetal"
_IMMUTABLE, _GETFLAGS, _SETFLAGS = 0x10, 0x80086601, 0x40086602  # linux/fs.h
_ENTRY = re.compile(r"Boot([0-9A-F]{4})-" + GLOBAL + r"\Z")


class Entry(NamedTuple):
    """One load option."""

    number: int
    label: str
    path: bytes
    active: bool


def load_option(label: str, partition: gpt.Partition, loader: str) -> bytes:
    """The bytes of a Boot#### variable that starts `loader` from a GPT partition."""
    drive = struct.pack("<BBHIQQ16sBB", 4, 1, 42, partition.index, partition.first, partition.sectors,
                        partition.id.bytes_le, 2, 2)  # fmt: skip
    name = loader.encode("utf-16-le") + b"\0\0"
    path = drive + struct.pack("<BBH", 4, 4, 4 + len(name)) + name + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", ACTIVE, len(path)) + label.encode("utf-16-le") + b"\0\0" + path


def parse(number: int, raw: bytes) -> Optional[Entry]:
    """A load option; None when it does not add up."""
    if len(raw) < 8:
        return None
    attributes, length = struct.unpack_from("<IH", raw)
    end = next((at for at in range(6, len(raw) - 1, 2) if raw[at : at + 2] == b"\0\0"), None)
    if end is None or end + 2 + length > len(raw):
        return None
    label = raw[6:end].decode("utf-16-le", "replace")
    return Entry(number, label, raw[end + 2 : end + 2 + length], bool(attributes & ACTIVE))


class Variables:
    """The firmware's boot variables."""

    def __init__(self, folder: str = "/sys/firmware/efi/efivars") -> None:
        self.folder = folder

    def entries(self) -> List[Entry]:
        """All that can be read, by number."""
        found = []
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []:
            hit = _ENTRY.match(name)
            entry = parse(int(hit.group(1), 16), self._read(name)) if hit else None
            if entry:
                found.append(entry)
        return found

    def order(self) -> List[int]:
        raw = self._read(f"BootOrder-{GLOBAL}")
        return list(struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2]))

    def put(self, label: str, partition: gpt.Partition, loader: str) -> Dict[str, Any]:
        """Our entry, new and first in the order; an earlier one of this label is replaced."""
        option = load_option(label, partition, loader)
        before = self.entries()
        ours = [e.number for e in before if e.label == label]
        taken = {e.number for e in before}
        number = ours[0] if ours else next(n for n in range(0x10000) if n not in taken)
        self._write(f"Boot{number:04X}-{GLOBAL}", option)
        for extra in ours[1:]:
            self._remove(f"Boot{extra:04X}-{GLOBAL}")
        order = [number] + [n for n in self.order() if n not in ours and n != number]
        self._write(f"BootOrder-{GLOBAL}", struct.pack(f"<{len(order)}H", *order))
        if self.order()[:1] != [number]:
            raise BootEntryFailed("the firmware did not keep the boot order", fix="set it in the firmware's setup")
        return {"entry": f"Boot{number:04X}", "label": label, "loader": loader, "order": [f"{n:04X}" for n in order]}

    def drop(self, label: str) -> List[str]:
        """Remove our entries: the disk they name was erased. Which they were."""
        ours = [e.number for e in self.entries() if e.label == label]
        for number in ours:
            self._remove(f"Boot{number:04X}-{GLOBAL}")
        order = self.order()
        left = [n for n in order if n not in ours]
        if left != order:
            self._write(f"BootOrder-{GLOBAL}", struct.pack(f"<{len(left)}H", *left))
        return [f"Boot{n:04X}" for n in ours]

    def _read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self.folder, name), "rb") as f:
                return f.read(64 * 1024)[4:]
        except OSError:
            return b""

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self.folder, name)
        try:
            _mutable(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                os.write(fd, ATTRIBUTES + data)  # one write is one SetVariable
            finally:
                os.close(fd)
        except OSError as exc:
            raise BootEntryFailed(
                f"the firmware did not take {name.partition('-')[0]}",
                detail=str(exc),
                fix="its variable store may be full: clear old boot entries in the firmware's setup",
            ) from exc

    def _remove(self, name: str) -> None:
        path = os.path.join(self.folder, name)
        try:
            _mutable(path)
            os.unlink(path)
        except OSError as exc:
            raise BootEntryFailed(f"the firmware keeps {name.partition('-')[0]}", detail=str(exc)) from exc


def _mutable(path: str) -> None:
    """efivarfs guards most variables with the immutable flag."""
    if not os.path.exists(path):
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        raw = fcntl.ioctl(fd, _GETFLAGS, struct.pack("l", 0))
        flags = struct.unpack("l", raw)[0]
        if flags & _IMMUTABLE:
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("l", flags & ~_IMMUTABLE))
    except OSError:
        pass  # another file system (a test), or an old kernel: the write says
    finally:
        os.close(fd)


def esp_of(table: gpt.Table) -> Optional[gpt.Partition]:
    """The EFI system partition, None without one."""
    return next((p for p in table.partitions if p.type == ESP), None)
