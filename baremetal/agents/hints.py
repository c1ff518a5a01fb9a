"""Root device hints, as Ironic has them: which disk gets the image. No I/O.

Hints: model, vendor, serial, size (GiB), wwn, wwn_with_extension,
wwn_vendor_extension, rotational, name, hctl, by_path. A value may begin with an
operator: = (numbers: at least) == != >= <= > <, s== s!= s< s<= s> s>= (as text),
<in>, <all-in>, <or>. Text compares without regard to case. Source: Ironic's
admin guide "Specifying the disk for deployment", oslo.utils specs_matcher.
"""

from __future__ import annotations

import operator
from typing import Any, Callable, Dict, List, Sequence

from baremetal.agents.disks import Disk
from baremetal.agents.trouble import DiskAmbiguous, NoDisk, OrderRefused

GIB = 1024**3
MIN_ROOT_GIB = 4  # Ironic's floor when no hint is given
_TEXT = ("model", "vendor", "serial", "wwn", "wwn_with_extension", "wwn_vendor_extension", "name", "hctl", "by_path")
KNOWN = (*_TEXT, "size", "rotational")

_NUMBERS: Dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,  # the specs language of Nova: "=" means "at least"
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_STRINGS: Dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s<=": operator.le,
    "s>": operator.gt,
    "s<": operator.lt,
}


def choose(disks: Sequence[Disk], hints: Dict[str, Any]) -> Disk:
    """The one disk that fits; with no hints the smallest of at least 4 GiB.

    Several that match: the smallest, and of equal ones the first by name, as
    Ironic does; but a serial or WWN that several claim is refused.
    """
    check(hints)
    usable = [d for d in disks if not d.refusal]
    if not usable:
        seen = [f"{d.path}: {d.refusal}" for d in disks]
        raise NoDisk(
            "no disk to deploy to",
            detail="\n".join(seen) or "the kernel shows no block device: no controller, no driver, or no drive",
            fix="check the drives and controller mode in the BIOS; other controllers need the generic kernel's ramdisk",
            disks=seen[:20],
        )
    if not hints:
        found = [d for d in usable if d.size >= MIN_ROOT_GIB * GIB]
        because = f"none has {MIN_ROOT_GIB} GiB"
    else:
        found = [d for d in usable if matches(d, hints)]
        because = "none matches " + ", ".join(f"{k}={v}" for k, v in sorted(hints.items()))
    if not found:
        raise NoDisk(
            f"no disk to deploy to: {because}",
            detail="\n".join(map(describe, disks)),
            fix="correct root_device of the node to one of the disks listed",
            disks=[describe(d) for d in disks][:20],
        )
    if len(found) > 1 and {"serial", "wwn", "wwn_with_extension"} & set(hints):
        raise DiskAmbiguous(
            f"{len(found)} disks match the root device hints",
            detail="\n".join(map(describe, found)),
            fix="paths of one multipath disk? Name one by its hctl or by_path",
            disks=[describe(d) for d in found][:20],
        )
    return min(found, key=lambda d: (d.size, d.name))


def check(hints: Dict[str, Any]) -> None:
    """OrderRefused for a hint nobody knows: a typing error must not choose another disk."""
    for key, value in hints.items():
        if key not in KNOWN:
            raise OrderRefused(f"unknown root device hint {key!r}", fix="known: " + ", ".join(KNOWN))
        if not isinstance(value, (str, int, float, bool)):
            raise OrderRefused(f"root device hint {key} has the value {value!r}", fix="a text, a number, true or false")
        if key == "size":
            _number_fits(0.0, str(value))


def matches(disk: Disk, hints: Dict[str, Any]) -> bool:
    """Does the disk fit every hint?"""
    return all(_fits(disk, key, value) for key, value in hints.items())


def describe(disk: Disk) -> str:
    """One line for a person."""
    parts = [f"{disk.path} {disk.size / GIB:.1f} GiB", disk.model, disk.serial and f"serial {disk.serial}"]
    parts += [disk.wwn and f"wwn {disk.wwn}", disk.refusal and f"({disk.refusal})"]
    return ", ".join(p for p in parts if p)


def _fits(disk: Disk, key: str, wanted: Any) -> bool:
    if key == "size":
        return _number_fits(disk.size // GIB, str(wanted))
    if key == "rotational":
        return disk.rotational == _truth(wanted)
    have = disk.path if key == "name" else str(getattr(disk, key) or "")
    text = str(wanted)
    if key == "by_path":
        return any(_text_fits(name, text) for name in (have, f"/dev/disk/by-path/{have}"))
    if key == "name":
        return any(_text_fits(name, text) for name in (disk.path, disk.name))
    return _text_fits(have, text)


def _number_fits(have: float, wanted: str) -> bool:
    words = wanted.split()
    if words and words[0] == "<or>":
        return any(_as_number(w) == have for w in words if w != "<or>")
    for sign in ("==", "!=", ">=", "<=", "=", ">", "<"):
        if wanted.strip().startswith(sign):
            return _NUMBERS[sign](have, _as_number(wanted.strip()[len(sign) :]))
    return have == _as_number(wanted)


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OrderRefused(f"root device hint size: {text!r} is no number of GiB", fix="like 100, or >= 100") from None


def _text_fits(have: str, wanted: str) -> bool:
    have, wanted = have.strip().lower(), wanted.strip().lower()
    words: List[str] = wanted.split()
    first = words[0] if words else ""
    if first == "<or>":
        return have in [choice.strip() for choice in wanted.split("<or>") if choice.strip()]
    if first == "<in>":
        return all(part.strip() in have for part in wanted.split("<in>") if part.strip())
    if first == "<all-in>":
        return all(word in have for word in words[1:])
    if first in _STRINGS:
        return _STRINGS[first](have, wanted[len(first) :].strip())
    return have == wanted


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on", "t", "y"):
        return True
    if text in ("0", "false", "no", "off", "f", "n"):
        return False
    raise OrderRefused(f"root device hint rotational: {value!r} is neither true nor false")
