"""Options for mkfs from diskimage-builder's block-device YAML, --mkfs-options or `disk.mkfs`: those we can keep to.

File systems are filled without being mounted, and must be the same bytes each
time: an option that moves them, dates them or is unknown to GRUB 2.06 is left to
the original.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from baremetal.images.errors import BadDefinition

# Each option with what its value may be.
_NUMBER = r"[0-9]+"
_FEATURES = "metadata_csum|64bit|has_journal|flex_bg|resize_inode|dir_index|large_file|huge_file|dir_nlink|extra_isize"
_EXTENDED = "resize|stride|stripe[_-]width|num_backup_sb|packed_meta_blocks"
_JOINED = r"(?:%s)(?:,(?:%s))*"
_FEATURE, _TUNED = rf"\^?(?:{_FEATURES})", rf"(?:{_EXTENDED})=[0-9]+[KMGTkmgt]?"
ALLOWED: Mapping[str, Mapping[str, str]] = {
    "ext4": {
        "-m": r"[0-9]+(?:\.[0-9]+)?",
        "-i": _NUMBER,
        "-J": rf"size={_NUMBER}",
        "-O": _JOINED % (_FEATURE, _FEATURE),
        "-E": _JOINED % (_TUNED, _TUNED),
    },
    "xfs": {
        "-m": _JOINED % (("(?:crc|finobt|reflink|rmapbt|inobtcount)=[01]",) * 2),
        "-i": _JOINED % (("(?:size|maxpct|sparse)=[0-9]+",) * 2),
        "-n": _JOINED % (("(?:size|ftype)=[0-9]+",) * 2),
    },
    "swap": {},
    "vfat": {},
}
INODE_BYTES = 256
BYTES_AN_INODE = 16384  # mke2fs' own (mke2fs.conf)


@dataclass(frozen=True)
class Ext4:
    """mke2fs' options apart: `extended` are those of -E, `journal_mib` 0 means no journal."""

    words: tuple[str, ...]
    extended: tuple[str, ...]
    journal_mib: int
    inode_share: float  # of the file system that its inodes take


def check(filesystem: str, text: str, where: str) -> str:
    """The options with one space between; BadDefinition for one that only the original keeps to."""
    return " ".join(word for pair in _pairs(filesystem, text, where) for word in pair)


def _pairs(filesystem: str, text: str, where: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise BadDefinition(f"{where}: options of mkfs {text!r}: {exc}") from exc
    pairs = []
    while words:
        option, value = words[0][:2], words.pop(0)[2:]
        value = value or (words.pop(0) if words else "")
        allowed = ALLOWED.get(filesystem, {}).get(option)
        if allowed is None or not re.fullmatch(allowed, value):
            keeps = " ".join(ALLOWED.get(filesystem, {})) or "none"
            raise BadDefinition(
                f"{where}: mkfs of {filesystem or 'nothing'} with {option} {value!r} is not made here",
                fix=f"--engine dib does it; here: {keeps}, with values that leave place and features alone",
            )
        pairs.append((option, value))
    return pairs


def ext4(text: str, journal_mib: int) -> Ext4:
    """Options that were checked, for mke2fs; `journal_mib`: its journal when they say nothing of it."""
    words: list[str] = []
    extended: list[str] = []
    features: list[str] = []
    ratio = BYTES_AN_INODE
    for option, value in _pairs("ext4", text, "ext4"):
        if option == "-E":
            extended += value.split(",")
        elif option == "-O":
            features += value.split(",")
        elif option == "-J":
            journal_mib = int(value.removeprefix("size="))
        else:
            words += [option, value]
            ratio = max(int(value), 1024) if option == "-i" else ratio
    words += ["-O", ",".join(features)] if features else []
    journal_mib = 0 if "^has_journal" in features else journal_mib
    return Ext4(tuple(words), tuple(extended), journal_mib, INODE_BYTES / ratio)
