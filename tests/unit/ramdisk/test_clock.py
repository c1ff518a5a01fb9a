"""The server's Date header as seconds."""

from __future__ import annotations

import email.utils

import pytest

from baremetal.agents import clock


@pytest.mark.parametrize("seconds", [0, 951_782_400, 1_709_164_799, 1_795_263_555, 4_102_444_799])
def test_agrees_with_the_standard_library(seconds: int) -> None:
    assert clock.parse_date(email.utils.formatdate(seconds, usegmt=True)) == seconds


@pytest.mark.parametrize(
    "text", ["", "now", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Xyz 1994 08:49:37 GMT"]
)
def test_nonsense_sets_no_clock(text: str) -> None:
    assert clock.parse_date(text) is None
    assert not clock.follow(text)
