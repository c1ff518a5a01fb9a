"""Software RAID by mdadm: make arrays, start them, take them apart. Ironic's target_raid_config in, what is there out.

Arrays lie over whole disks with metadata 1.0, at the end: firmware that knows
nothing of arrays sees each half of a mirror as a plain disk and boots it.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Callable, Dict, List

from baremetal.agents import hints
from baremetal.agents.disks import Disk, find
from baremetal.agents.trouble import OrderRefused, RaidFailed

MDADM = "/usr/sbin/mdadm"
LEVELS = {"0": 2, "1": 2, "5": 3, "6": 4, "1+0": 4, "10": 4}  # level: disks it needs
Progress = Callable[[str, int, int, str], None]
Run = Callable[[List[str]], str]


def run_mdadm(arguments: List[str]) -> str:
    """Its output; RaidFailed with its words."""
    if not os.path.exists(MDADM):
        raise RaidFailed(
            "this ramdisk has no mdadm", fix="build the ramdisk with the option raid: baremetal image build"
        )
    drivers = ["md_mod", "raid0", "raid1", "raid10", "raid456"]
    subprocess.run(["/bin/busybox", "modprobe", "-abq", *drivers], check=False, stderr=subprocess.DEVNULL)
    alone = {**os.environ, "MDADM_NO_UDEV": "1"}  # else it waits for a daemon that is not here
    done = subprocess.run([MDADM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, env=alone)
    if done.returncode:
        raise RaidFailed(
            f"mdadm {' '.join(arguments[:3])} … failed with {done.returncode}",
            detail=done.stderr.decode("utf-8", "replace").strip()[-1500:],
            fix="look at the disks named; foreign arrays: clean the node first",
            command=" ".join(arguments)[:500],
        )
    return done.stdout.decode("utf-8", "replace")


def create(
    args: Dict[str, Any], disks: List[Disk], progress: Progress, mdadm: Run = run_mdadm, sys: str = "/sys"
) -> Dict[str, Any]:
    """Make every logical disk of the order. All are planned before the first disk is touched."""
    plan = planned(args, disks)
    made: List[Dict[str, Any]] = []
    for n, (level, members, size_kib) in enumerate(plan):
        progress("raid", n, len(plan), "arrays")
        path = f"/dev/md{n}"
        mdadm(
            ["--create", path, "--run", "--force", "--metadata=1.0", f"--name=baremetal-{n}", "--homehost=any",
             f"--level={level}", f"--raid-devices={len(members)}", *([f"--size={size_kib}"] if size_kib else []),
             *(["--bitmap=internal"] if level in ("1", "5", "6", "10") else []), *[d.path for d in members]]
        )  # fmt: skip
        made.append(_seen(path, level, members, sys))
    progress("raid", len(plan), len(plan), "arrays")
    return {"logical_disks": made}


def planned(args: Dict[str, Any], disks: List[Disk]) -> "List[tuple[str, List[Disk], int]]":
    """(level, members, KiB of each member used or 0 for all) of every logical disk; OrderRefused for nonsense."""
    wanted = args.get("logical_disks")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(w, dict) for w in wanted):
        raise OrderRefused("raid_create wants logical_disks: [{raid_level, size_gb, physical_disks}]")
    free = [d for d in disks if not d.refusal and not d.read_only and d.transport != "md"]
    plan = []
    for want in wanted:
        level = str(want.get("raid_level", ""))
        if level not in LEVELS:
            raise OrderRefused(f"raid_level {level!r}", fix="software RAID knows " + ", ".join(LEVELS))
        if str(want.get("controller", "software")) != "software":
            raise OrderRefused(f"controller {want['controller']!r}", fix="this ramdisk makes software RAID only")
        members = _members(want.get("physical_disks"), free, LEVELS[level])
        plan.append(("10" if level == "1+0" else level, members, _size_kib(want.get("size_gb", "MAX"), level, members)))
        free = [d for d in free if d not in members]
    return plan


def _members(chosen: Any, free: List[Disk], least: int) -> List[Disk]:
    """Disks by root device hints, one each; without any all that are free."""
    if chosen is None or chosen == []:
        members = sorted(free, key=lambda d: d.name)
    elif isinstance(chosen, list) and all(isinstance(c, dict) for c in chosen):
        members, left = [], list(free)
        for hint in chosen:
            disk = hints.choose(left, hint)
            members.append(disk)
            left.remove(disk)
    else:
        raise OrderRefused("physical_disks is a list of root device hints, one a disk")
    if len(members) < least:
        raise OrderRefused(
            f"{len(members)} disks for a level that needs {least}",
            detail="\n".join(map(hints.describe, free)),
            fix="correct physical_disks, or the level",
        )
    return members


def _size_kib(size_gb: Any, level: str, members: List[Disk]) -> int:
    if size_gb in ("MAX", None):
        return 0
    if not isinstance(size_gb, (int, float)) or size_gb <= 0:
        raise OrderRefused(f"size_gb {size_gb!r}", fix='a number of GiB, or "MAX"')
    count = len(members)
    data = {"0": count, "1": 1, "5": count - 1, "6": count - 2}.get(level, count // 2)
    each = int(size_gb * 1024 * 1024 / data)
    smallest = min(d.size for d in members) // 1024
    if each + 128 * 1024 > smallest:
        raise OrderRefused(
            f"an array of {size_gb} GiB needs {each >> 20} GiB of each disk, the smallest has {smallest >> 20}"
        )
    return each


def _seen(path: str, level: str, members: List[Disk], sys: str) -> Dict[str, Any]:
    """What the kernel shows of the array that was just made; RaidFailed when it shows none."""
    name = os.path.basename(os.path.realpath(path))
    until = time.monotonic() + 5
    size = 0
    while not size and time.monotonic() < until:
        try:
            with open(f"{sys}/block/{name}/size") as f:
                size = int(f.read()) * 512
        except (OSError, ValueError):
            pass
        if not size:
            time.sleep(0.1)
    if not size:
        raise RaidFailed(f"{path} was made and does not appear", fix="see the console log")
    return {
        "name": path,
        "raid_level": level,
        "size": size,
        "members": [{"name": d.path, "serial": d.serial, "wwn": d.wwn} for d in members],
    }


def assemble(mdadm: Run = run_mdadm) -> None:
    """Start the arrays that lie on the disks; that there are none is no fault."""
    try:
        mdadm(["--assemble", "--scan"])
    except RaidFailed as exc:
        if arrays():
            return  # they ran already
        if "No arrays found" not in exc.detail and "No suitable drives" not in exc.detail:
            raise


def delete(mdadm: Run = run_mdadm, sys: str = "/sys", dev: str = "/dev") -> Dict[str, Any]:
    """Stop every array and wipe the md superblocks of our local disks; what was done. Proved by looking again."""
    stopped = stop(mdadm, sys, dev)
    wiped = []
    for disk in find(sys, dev):
        if disk.refusal or disk.read_only or disk.transport == "md" or "md array" not in _content(disk):
            continue
        mdadm(["--zero-superblock", disk.path])
        if "md array" in _content(disk):
            raise RaidFailed(f"{disk.path} still has an md superblock", fix="clean the disk with the method zero")
        wiped.append({"name": disk.path, "serial": disk.serial})
    return {"stopped": stopped, "wiped": wiped}


def stop(mdadm: Run = run_mdadm, sys: str = "/sys", dev: str = "/dev") -> List[str]:
    """Stop every array; which they were."""
    stopped = arrays(sys)
    for array in stopped:
        mdadm(["--stop", f"{dev}/{array}"])
    return stopped


def arrays(sys: str = "/sys") -> List[str]:
    """Names of the arrays the kernel runs."""
    base = f"{sys}/block"
    return sorted(n for n in os.listdir(base) if n.startswith("md") and os.path.isdir(f"{base}/{n}/md"))


def _content(disk: Disk) -> List[str]:
    from baremetal.agents import foreign

    return foreign.content(disk.path)
