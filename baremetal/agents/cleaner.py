"""Erases what would be found on the listed disks, reads again, and says what it saw.

Methods:
  metadata  a discard where the drive has one, then partition tables, boot code and signatures of
            file systems, LVM, RAID and LUKS at both ends of the disk and of every partition. What
            Ironic calls erase_devices_metadata: it removes structure, not every byte.
  discard   the same, but a drive without discard is a failure.
  zero      every byte written with zeros, and every byte read again.
  secure    the drive's own erase (NVMe Sanitize or Format NVM, ATA Sanitize or Security Erase), then
            metadata; a drive without one is a failure, and so is one that keeps what it held.
  best      secure where the drive can, zero where it cannot; the report says which it was.

A disk listed with "foreign": false may be erased only when nothing lies on it: nobody said yes to
the loss of what is there.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Set, Tuple

from baremetal.agents import blockdev, witness
from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.disks import Disk
from baremetal.agents.gpt import BadTable
from baremetal.agents.trouble import (
    DiskIo,
    DiskReadOnly,
    DiskRefused,
    ForeignData,
    NodeTrouble,
    NoSuchErase,
    OrderRefused,
    WipeUnproved,
    to_fault,
)

METADATA, DISCARD, ZERO, SECURE, BEST = METHODS = ("metadata", "discard", "zero", "secure", "best")
ENDS = 4 * MIB  # at both ends of the disk: GPT is 34 sectors, md 1.0 and DDF lie in the last MiB, ZFS labels in 512 KiB
PART_ENDS = MIB  # at both ends of every partition
BTRFS = 64 * MIB  # its second superblock; the third is at 256 GiB (btrfs-man5)
STEP = 256 * MIB  # bytes zeroed between two progress reports
Area = Tuple[int, int]  # first byte, length
Progress = Callable[[str, int, int, str], None]


def clean(args: Dict[str, Any], disks: List[Disk], progress: Progress, sys: str = "/sys") -> Dict[str, Any]:
    """Carry out a clean order. Disks that are not listed are not opened.

    All listed disks are looked at before the first is touched. A disk that
    fails does not spare the others; the order fails then, with all results.
    """
    method = args.get("method", METADATA)
    if method not in METHODS:
        raise OrderRefused(f"clean method {method!r} is not known", fix="known: " + ", ".join(METHODS))
    entries = _entries(args)
    chosen = [_named(entry, disks) for entry in entries]
    if len({d.name for d in chosen}) != len(chosen):
        raise OrderRefused("the clean order lists a disk twice", disks=[d.path for d in chosen])
    _check_foreign([d for d, entry in zip(chosen, entries) if entry.get("foreign") is False])
    results: List[Dict[str, Any]] = []
    failed: List[NodeTrouble] = []
    for n, disk in enumerate(chosen):
        progress("clean", n, len(chosen), "disks")
        try:
            results.append(_wipe_disk(disk, method, sys, progress, spared(disk, chosen, disks)))
        except NodeTrouble as exc:
            failed.append(exc)
            results.append({"name": disk.path, "serial": disk.serial, "fault": to_fault(exc).to_json()})
    progress("clean", len(chosen), len(chosen), "disks")
    if failed:
        failed[0].evidence["disks"] = [_short(r) for r in results]
        raise failed[0]
    return {"disks": results, "method": method}


def _check_foreign(guarded: List[Disk]) -> None:
    """ForeignData when a disk nobody gave up holds anything. All are read before the first is erased."""
    from baremetal.agents import foreign  # late: most orders need no look

    found = {disk: foreign.content(disk.path) for disk in guarded}
    held = {disk: what for disk, what in found.items() if what}
    if held:
        lines = [f"{d.path} serial={d.serial} wwn={d.wwn}: {'; '.join(what)}" for d, what in held.items()]
        raise ForeignData(
            f"{len(held)} disk{'s' if len(held) > 1 else ''} of this machine hold data that was never ours to erase",
            detail="\n".join(lines),
            fix="look at it; to give it up: baremetal node provide NODE --erase-foreign",
            disks=[{"name": d.path, "serial": d.serial, "content": what[:6]} for d, what in held.items()],
        )


def _entries(args: Dict[str, Any]) -> List[Dict[str, Any]]:
    listed = args.get("disks")
    if not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
        raise OrderRefused("a clean order lists its disks: [{serial, wwn, name, size}]")
    return listed


def _named(entry: Dict[str, Any], disks: List[Disk]) -> Disk:
    """The one disk meant: by serial and WWN where it has them, else by name and size together."""
    serial, wwn, name, size = (entry.get(key) for key in ("serial", "wwn", "name", "size"))
    if serial or wwn:
        found = [
            d for d in disks if (not serial or d.serial == serial) and (not wwn or wwn in (d.wwn, d.wwn_with_extension))
        ]
        found = [d for d in found if size is None or d.size == size]
    elif name and size:
        # A disk that has a serial is listed by it: names change from boot to boot.
        found = [d for d in disks if name in (d.name, d.path) and d.size == size and not d.serial]
    else:
        raise OrderRefused("a disk is listed without serial, WWN, or name and size", entry=entry)
    if len(found) != 1:
        raise DiskRefused(
            f"{len(found) or 'no'} disk{'s' if len(found) > 1 else ''} here for {entry}",
            detail="\n".join(f"{d.path} serial={d.serial} wwn={d.wwn} size={d.size}" for d in disks),
            fix="inspect the node again: its disks were changed",
            entry=entry,
        )
    return _allowed(found[0])


def _allowed(disk: Disk) -> Disk:
    if disk.refusal:
        raise DiskRefused(
            f"{disk.path} is {disk.refusal}: never erased", fix="take it off the list of disks to clean", disk=disk.path
        )
    if disk.read_only:
        raise DiskReadOnly(f"{disk.path} is write-protected", fix="check its switch or controller", disk=disk.path)
    return disk


def spared(disk: Disk, chosen: List[Disk], disks: List[Disk]) -> List[Disk]:
    """Namespaces of the same NVMe drive that are not to be erased: sanitize, and format on many drives, takes all."""
    if disk.transport != "nvme":
        return []
    drive = disk.name.rpartition("n")[0]
    same = [d for d in disks if d.transport == "nvme" and (d.name.rpartition("n")[0] == drive or _twins(d, disk))]
    return [d for d in same if d not in chosen]


def _twins(one: Disk, other: Disk) -> bool:
    """An NVMe serial is the drive's, not the namespace's."""
    return bool(one.serial) and (one.serial, one.model) == (other.serial, other.model)


def _wipe_disk(disk: Disk, method: str, sys: str, progress: Progress, others: List[Disk]) -> Dict[str, Any]:
    started = time.monotonic()
    done, changed = method, None
    with Target(disk.path) as target:
        if method in (SECURE, BEST):
            before = witness.held(target)
            done, method = _own_erase(disk, method, progress, others)
            changed = witness.check(target, before) if method == SECURE else None
        areas = areas_of(target, blockdev.partitions(sys, disk.name))
        discarded = method != ZERO and target.discard(0, target.size // target.sector * target.sector)
        if method == DISCARD and not discarded:
            raise NoSuchErase(f"{disk.path} has no discard", fix="use another clean method for it", disk=disk.path)
        if method == ZERO:
            areas = [(0, target.size // target.sector * target.sector)]
        _zero(target, areas, progress)
        target.sync()
        target.drop_cache()
        prove(target, areas, progress)
        reread = target.reread_partitions()
    return {
        "name": disk.path,
        "serial": disk.serial,
        "wwn": disk.wwn,
        "size": disk.size,
        "method": done,
        "areas": len(areas),
        "bytes_verified": sum(length for _, length in areas),
        "discarded": discarded,
        **({} if changed is None else {"spots_changed": changed}),
        "kernel_reread": reread,
        "seconds": round(time.monotonic() - started, 2),
    }


def _own_erase(disk: Disk, method: str, progress: Progress, others: List[Disk]) -> Tuple[str, str]:
    """(what was done, method of the rest): the drive's own erase; with `best` zeros where it has none."""
    try:
        return _secure(disk, progress, others), SECURE
    except NoSuchErase as exc:
        if method == SECURE:
            raise
        return f"{ZERO} ({exc.detail or exc.brief})"[:200], ZERO


def _secure(disk: Disk, progress: Progress, others: List[Disk]) -> str:
    """The drive's own erase; the name of what was done."""
    if others:
        names = ", ".join(d.path for d in others)
        raise NoSuchErase(
            f"{disk.path}: the drive's own erase would take {names} too, which nobody listed",
            fix="list all namespaces of the drive, or use the method zero",
            disk=disk.path,
        )

    def tick(done: int, total: int) -> None:
        progress("secure-erase", done, total, "parts")

    progress("secure-erase", 0, 1, "parts")
    try:
        if disk.transport == "nvme":
            from baremetal.agents import nvme  # late: ctypes, and most orders do not need it

            return nvme.secure_erase(disk.path, tick, nvme.namespace_of(disk.name))
        if disk.transport == "sata":
            from baremetal.agents import ata

            return ata.secure_erase(disk.path, tick)
    except (OSError, DiskIo) as exc:
        raise NoSuchErase(
            f"{disk.path}: the drive did not erase itself",
            detail=getattr(exc, "brief", str(exc)),
            fix="use the method zero, or best",
            disk=disk.path,
        ) from exc
    raise NoSuchErase(
        f"{disk.path}: no secure erase is known for {disk.transport or 'this bus'}",
        fix="use the method zero for it, or best",
        disk=disk.path,
    )


def _zero(target: Target, areas: List[Area], progress: Progress) -> None:
    total, done = sum(length for _, length in areas), 0
    for start, length in areas:
        for at in range(0, length, STEP):
            part = min(STEP, length - at)
            target.zero(start + at, part)
            done += part
            progress("erase", done, total, "bytes")


def areas_of(target: Target, known: List[Tuple[str, int, int]]) -> List[Area]:
    """What to erase: both ends of the disk and of every partition, the kernel's and the tables' own."""
    wanted: Set[Area] = {(0, ENDS), (target.size - ENDS, ENDS), (BTRFS, MIB), (256 * 1024 * MIB, MIB)}
    for start, length in [(s, n) for _, s, n in known] + _from_table(target):
        wanted |= {(start, PART_ENDS), (start + length - PART_ENDS, PART_ENDS), (start + BTRFS, MIB)}
    clipped = sorted(_clip(start, length, target.size, target.sector) for start, length in wanted)
    return _merged([a for a in clipped if a[1] > 0])


def prove(target: Target, areas: List[Area], progress: Progress) -> None:
    """Read every area again; WipeUnproved at the first byte that is not zero."""
    nothing = bytes(MIB)
    total, done = sum(length for _, length in areas), 0
    for start, length in areas:
        for at in range(start, start + length, MIB):
            progress("verify", done, total, "bytes")
            done += MIB
            want = min(MIB, start + length - at)
            data = target.read(at, want)
            if data != nothing[:want]:
                bad = next((i for i, byte in enumerate(data) if byte), len(data))
                raise WipeUnproved(
                    f"{target.path}: byte {at + bad} is not zero after it was erased",
                    detail="the drive accepted the writes and did not keep them",
                    fix="do not hand this machine on; replace the drive",
                    disk=target.path,
                    offset=at + bad,
                )


def _from_table(target: Target) -> List[Area]:
    """Partitions of a GPT that the kernel may not have read (a damaged primary, another sector size)."""
    from baremetal.agents import gpt  # late: cleaning an empty disk needs none of it
    from baremetal.agents.finish import HEAD, Held

    disk: Any = Held(target, target.read(0, HEAD))
    found: List[Area] = []
    for backup in (False, True):
        try:
            table = gpt.read_backup(disk, target.size, target.sector) if backup else gpt.read(disk, target.sector)
        except BadTable:
            continue
        found += [(p.first * target.sector, p.sectors * target.sector) for p in table.partitions]
    return found


def _clip(start: int, length: int, size: int, sector: int) -> Area:
    """Inside the disk, on whole 4 KiB at the start and whole sectors at the end."""
    end = min(start + length, size // sector * sector)
    start = max(start, 0) // 4096 * 4096
    return start, end - start


def _merged(areas: List[Area]) -> List[Area]:
    out: List[Area] = []
    for start, length in areas:
        if out and start <= out[-1][0] + out[-1][1]:
            first, have = out[-1]
            out[-1] = (first, max(have, start + length - first))
        else:
            out.append((start, length))
    return out


def _short(result: Dict[str, Any]) -> Dict[str, Any]:
    fault = result.get("fault")
    return {"name": result["name"], "serial": result["serial"], "result": fault["code"] if fault else "clean"}
