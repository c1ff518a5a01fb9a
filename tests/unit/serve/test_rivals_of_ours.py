"""Which DHCP server on the wire is a rival, when several servers of one site share it."""

from __future__ import annotations

import time

import pytest

from baremetal.serve import rivalwatch
from baremetal.serve.rivalwatch import Rival, RivalWatch

OURS, THEIRS = Rival("10.0.0.2", "02:00:00:00:00:02"), Rival("10.0.0.9", "02:00:00:00:00:09")
SITE = frozenset({"10.0.0.1", "10.0.0.2"})


@pytest.fixture
def watch() -> tuple[RivalWatch, list[Rival]]:
    told: list[Rival] = []
    return RivalWatch("eth0", "10.0.0.1", told.append), told


def test_a_server_alone_names_a_rival_at_once(watch: tuple[RivalWatch, list[Rival]]) -> None:
    one, told = watch
    one._meet(THEIRS)
    assert told == [THEIRS]


def test_one_of_the_site_that_is_heard_before_it_is_known_is_no_rival(watch: tuple[RivalWatch, list[Rival]]) -> None:
    one, told = watch
    one.know(frozenset())  # several servers, not known yet which
    one._meet(OURS)
    assert told == []
    assert one.unsure
    one.know(SITE)
    one._meet(OURS)
    assert (told, one.unsure, one.heard) == ([], {}, {})


def test_a_stranger_is_named_when_it_is_surely_none_of_ours(
    watch: tuple[RivalWatch, list[Rival]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = watch
    one.know(SITE)
    one._meet(THEIRS)
    one.know(SITE)
    assert told == []
    begun = time.monotonic()
    monkeypatch.setattr(rivalwatch.time, "monotonic", lambda: begun + rivalwatch.UNSURE_S + 1)
    one.know(SITE)
    assert told == [THEIRS]
    assert one.heard


def test_who_was_called_a_rival_and_joins_the_site_is_one_no_more(watch: tuple[RivalWatch, list[Rival]]) -> None:
    one, told = watch
    one._meet(OURS)
    assert told == [OURS]
    assert one.know(SITE)
    assert one.heard == {}
