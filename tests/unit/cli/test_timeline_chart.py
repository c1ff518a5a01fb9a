"""The bar chart of a timeline: fits the terminal, tells what runs and what failed, is plain without colour."""

from __future__ import annotations

import re

from baremetal.cli import chart

ROWS = [  # stage, kind, start, end, seconds, outcome, detail
    ("deploying", "state", 0.0, None, 100.0, "now", ""),
    ("deploy.deploy", "step", 0.0, 40.0, 40.0, "ok", "the agent answers"),
    ("DHCP uefi-x64 firmware", "dhcp", 20.0, 20.0, 0.0, "ok", ""),
    (
        "BMC power on a BMC with a very long name",
        "bmc",
        1.0,
        3.0,
        2.0,
        "failed",
        "10.0.0.17:623 silent for 6 s (3 tries)",
    ),
    ("deploy.write_image", "step", 40.0, None, None, "running", ""),
]
KEYS = ("stage", "kind", "start", "end", "seconds", "outcome", "detail")
STAGES = [dict(zip(KEYS, row, strict=True)) for row in ROWS]
GOLDEN = """\
deploying                        100.0 s… ████████████████████████ now
  deploy.deploy                   40.0 s  █████████▋               the agent an…
  DHCP uefi-x64 firmware                      ▏
  BMC power on a BMC with a v…     2.0 s  ▌                        failed 10.0.…
  deploy.write_image              60.0 s…          ██████████████▍ running
total                            100.0 s"""


def drawn(columns: int, *, colour: bool = False) -> list[str]:
    return chart.lines(STAGES, 100.0, 100.0, columns=columns, colour=colour)


def test_eighty_columns() -> None:
    assert "\n".join(line.rstrip() for line in drawn(80)) == GOLDEN


def test_no_line_is_wider_than_the_terminal() -> None:
    for columns in (80, 100, 200):
        assert max(map(len, drawn(columns))) <= columns


def test_a_pipe_gets_everything() -> None:
    assert "silent for 6 s (3 tries)" in "\n".join(drawn(0))


def test_colour_changes_nothing_but_colour() -> None:
    plain = [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in drawn(80, colour=True)]
    assert plain == [line.rstrip() for line in drawn(80)]
    assert "\x1b[31m" in "".join(drawn(80, colour=True))


def test_nothing_is_nothing() -> None:
    assert chart.lines([], None, 0.0) == []
