"""Lines on a machine's console that say why its boot ends here. Pure: bytes in, what they mean out.

The texts are those of Linux 6.1 and of iPXE; a machine with 96 and one with 128 MiB of memory showed the first two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 400  # bytes of a line that are looked at
_MEMORY = "the ramdisk does not fit into its memory"
_MORE_MEMORY = "does the machine see all its memory modules? it needs 512 MiB and more"


BOOT, NODE = "boot", "node"  # what is over with a line: this boot, or every boot until a person has changed the machine


@dataclass(frozen=True)
class Telltale:
    """`means` in words, with the line itself; `fix`: "" when a person must read the line; `over`: "", BOOT or NODE.

    `line` is the line as it came, with the kernel's time stamp: no two boots say the same one.
    """

    means: str
    fix: str = ""
    over: str = ""
    line: str = ""


# (pattern, what it means; {0} is the line, what to do, what is over)
TABLE: tuple[tuple[re.Pattern[str], str, str, str], ...] = (
    (re.compile(r"Initramfs unpacking failed: (write|ZSTD)"), f"{_MEMORY} ({{0}})", _MORE_MEMORY, NODE),
    (re.compile(r"System is deadlocked on memory"), f"{_MEMORY} ({{0}})", _MORE_MEMORY, NODE),
    # One program may have been killed, and the agent go on.
    (re.compile(r"Out of memory"), f"{_MEMORY} ({{0}})", _MORE_MEMORY, ""),
    (re.compile(r"Kernel panic - not syncing"), "its kernel stopped: {0}", "", BOOT),
    (
        re.compile(r"\(https?://ipxe\.org/[0-9a-f]{8}\)"),
        "iPXE said: {0} (what the number means: baremetal boot error)",
        "",  # it tries again by itself
        "",
    ),
    (
        re.compile(r"network: none found"),
        "the ramdisk found no network: {0}",
        "is there a driver for its NIC? a lease?",
        BOOT,
    ),
)
_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|[^\x20-\x7e]")
_STAMP = re.compile(r"^\[\s*[\d.]+\] ")


class Scanner:
    """Feed it what the console says; each kind of line is told once.

    `before`: lines told of earlier boots. A BMC that repeats its last page to whoever opens the console says them
    again, and they are not of this boot.
    """

    def __init__(self, before: frozenset[str] = frozenset()) -> None:
        self._before = before
        self._rest = b""
        self._told: set[int] = set()

    def feed(self, data: bytes) -> list[Telltale]:
        """What the lines that ended in `data` tell."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[-LONGEST:]
        return [found for line in lines for found in self._look(line[:LONGEST])]

    def _look(self, raw: bytes) -> list[Telltale]:
        whole = _NOISE.sub("", raw.decode("ascii", "replace")).strip()[:200]
        line = _STAMP.sub("", whole)
        if whole in self._before:
            return []
        for number, (pattern, means, fix, over) in enumerate(TABLE):
            if pattern.search(line):
                # The panic that ends a machine without memory is told as what it is, once.
                new = number not in self._told
                self._told.add(number)
                return [Telltale(means.format(line), fix, over, whole)] if new else []
        return []
