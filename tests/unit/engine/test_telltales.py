"""What a console says last, and what it means: lines of machines with too little memory, of iPXE, of kernels."""

from __future__ import annotations

import pytest

from baremetal.model.event import Event, Kind
from baremetal.store.boots import Boot
from baremetal.workflows import causes
from baremetal.workflows.telltales import Scanner

LINES = [  # on the console, what is told
    (b"[    5.124504] Initramfs unpacking failed: write error\r\n", "does not fit into its memory (Initramfs"),
    (b"[    3.5] Kernel panic - not syncing: System is deadlocked on memory\r\n", "does not fit into its memory"),
    (b"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n", "its kernel stopped: Kernel panic"),
    (b"Connection timed out (https://ipxe.org/4c0a6092)\r\n", "iPXE said: Connection timed out"),
    (b"\x1b[2J\x1b[0mNo space left (http://ipxe.org/34452006)\n", "iPXE said: No space left"),
    (b"baremetal [ 12.3] network: none found; nothing can be done here\n", "found no network"),
]


@pytest.mark.parametrize(("line", "words"), LINES)
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_line_is_understood_however_it_comes(line: bytes, words: str, piece: int) -> None:
    scanner = Scanner()
    text = b"Booting from ROM...\r\n" + line + line + b"and so on"
    found = [t for at in range(0, len(text), piece) for t in scanner.feed(text[at : at + piece])]
    assert [words in t.means for t in found] == [True], "told once"


@pytest.mark.parametrize(
    "text", [b"", b"\xff" * 5000, b"\n" * 5000, b"iPXE 1.21.1 -- http://ipxe.org\n", b"x" * 100_000]
)
def test_what_says_nothing_tells_nothing(text: bytes) -> None:
    scanner = Scanner()
    assert scanner.feed(text) + scanner.feed(b"\n") == []


def test_a_boot_that_stopped_is_explained_by_its_console() -> None:
    boot = Boot("b", "n", "ramdisk", created_at=10.0)
    seen = [
        Event("1", 11.0, "n", Kind.KERNEL, "vmlinuz", "boot"),
        Event("2", 12.0, "n", Kind.CONSOLE, causes.SAID, "bmc", data={"because": "no memory (x)", "fix": "add some"}),
    ]
    cause = causes.boot_stopped(boot, seen, ["52:54:00:00:00:01"])
    assert (cause.code, cause.fix) == ("boot-no-hello", "add some")
    assert cause.brief.endswith("did not say hello: no memory (x)")
    assert "On its console: no memory (x). Known MACs: 52:54" in cause.detail


OVER = [  # on the console, what is over
    (b"Initramfs unpacking failed: write error\n", "node"),
    (b"Kernel panic - not syncing: System is deadlocked on memory\n", "node"),
    (b"Kernel panic - not syncing: Fatal exception\n", "boot"),
    (b"Out of memory: Killed process 97 (modprobe)\n", ""),
    (b"Connection timed out (https://ipxe.org/4c0a6092)\n", ""),
]


@pytest.mark.parametrize(("line", "over"), OVER)
def test_what_is_over_when_it_is_said(line: bytes, over: str) -> None:
    (told,) = Scanner().feed(line)
    assert told.over == over
    said = Event("2", 12.0, "n", Kind.CONSOLE, causes.SAID, "bmc", data={"because": told.means, "over": told.over})
    assert causes.boot_stopped(Boot("b", "n", "ramdisk", created_at=10.0), [said], []).hopeless is (over == "node")


def test_what_ipxe_says_leaves_the_advice_of_the_stage() -> None:
    boot = Boot("b", "n", "ramdisk", created_at=10.0)
    (told,) = Scanner().feed(b"Link status: Down (https://ipxe.org/38086193)\n")
    said = Event("2", 12.0, "n", Kind.CONSOLE, causes.SAID, "bmc", data={"because": told.means, "fix": told.fix})
    cause = causes.boot_stopped(boot, [said], ["52:54:00:00:00:01"])
    assert cause.code == "boot-no-dhcp"
    assert "Link status: Down" in cause.brief
    assert "cable" in cause.fix
