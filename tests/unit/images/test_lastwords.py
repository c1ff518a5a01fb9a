"""What a failed phase's last lines become: its own words, and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.images import lastwords

BEGAN = "dib-run-parts Running /x/root.d/10-mmdebstrap"
GONE = "E: Failed to fetch http://m/pool/h.deb  404  Not Found [IP: 127.0.0.1 80]"
# apt 2.6 and dpkg 1.21 of Debian 12, as they were seen.
SAID = [  # the last lines, what is shown, a word of the help
    (
        ["Get:69 http://m/debian bookworm/main amd64 usrmerge all 37", "Fetched 29.7 MB in 6s", GONE, "I: main()"],
        [GONE],
        "--refresh",
    ),
    (["Ign:1 http://m bookworm", "Err Unable to connect to m"], ["Err Unable to connect to m"], "again later"),
    (["E: Failed to fetch http://m/h.deb  Hash Sum mismatch"], None, "a proxy before it"),
    (["E: Unable to locate package no-such"], None, "correct it"),
    (["> dpkg-deb: error: <decompress> lzma error: compressed data is corrupt"], None, "rm -r dib/apt"),
    (["> Unpacking vim (1) ...", "cp: No space left on device"], ["cp: No space left on device"], "make room"),
    (["touch: cannot touch '/etc/x': Read-only file system"], None, "--unconfined"),
    (["Setting up vim (1) ..."], ["Setting up vim (1) ..."], "--shell-on-failure"),
    ([], ["(it said nothing)"], "--shell-on-failure"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "shown", "help_"), SAID, ids=[row[2] for row in SAID])
def test_what_is_shown_and_what_helps(lines: list[str], shown: list[str] | None, help_: str) -> None:
    found = lastwords.failure(
        "root",
        "10-mmdebstrap",
        "failed (exit 25)",
        [BEGAN, *lines],
        Path("log"),
        lambda _: "debian-base",
        sourcing=False,
    )
    assert found.brief == "debian-base: root.d/10-mmdebstrap failed (exit 25)"
    assert found.detail.splitlines() == [*(f"  | {line}" for line in shown or lines), "log: log"]
    assert help_ in found.fix
