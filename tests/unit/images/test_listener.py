"""What is kept of a phase's words, however it says them."""

from __future__ import annotations

import io

import pytest

from baremetal.images import listener

RUNS = b"dib-run-parts Running /x/install.d/10-one\n"
DONE = b"dib-run-parts 10-one completed\n"
SAID = [  # pieces as they come, the last lines
    ([b"a li", b"ne\nand", b" more\n"], ["a line", "and more"]),
    ([b"no line ends"], ["no line ends"]),
    ([b"10 %\r20 %\r100 %\r\n"], ["100 %"]),
    ([b"\xff\x1b[2J\n"], ["\ufffd?[2J"]),
    ([b"x" * 100_000, b"y\n"], ["x" * 300 + " …"]),
]


@pytest.mark.parametrize(("pieces", "lines"), SAID)
def test_the_last_lines(pieces: list[bytes], lines: list[str]) -> None:
    log = io.BytesIO()
    ear = listener.Listener(log, lambda _: None)
    for piece in [*pieces, b""]:
        ear.hear(piece)
    assert list(ear.tail) == lines
    assert log.getvalue() == b"".join(pieces)


def test_a_script_is_told_when_it_starts_and_noted_when_it_is_done() -> None:
    began: list[str] = []
    ear = listener.Listener(io.BytesIO(), began.append)
    for piece in (RUNS, b"words\n", DONE, RUNS.replace(b"10-one", b"20-two"), b""):
        ear.hear(piece)
    assert began == ["10-one", "20-two"]
    assert [(script.name, script.done) for script in ear.scripts] == [("10-one", True), ("20-two", False)]


def test_who_talks_without_end_fills_neither_disk_nor_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LARGEST_LOG", 1 << 20)
    log = io.BytesIO()
    ear = listener.Listener(log, lambda _: None)
    for _ in range(1000):
        ear.hear(bytes(1 << 16))
    ear.hear(b"\nthe reason\n")
    assert len(log.getvalue()) < (1 << 20) + (1 << 16)
    assert log.getvalue().endswith(b"more than 1 MiB were said\n")
    assert ear.tail[-1] == "the reason"
