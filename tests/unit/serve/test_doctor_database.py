"""What doctor says of a PostgreSQL, by what PostgreSQL says of itself. (Over a real one: test_joining.py.)"""

from __future__ import annotations

import pytest

from baremetal.config import Settings
from baremetal.serve.doctordb import database, judge

GOOD = {"version": "15.20", "standby": False, "now": 1000.0, "most": 300, "used": 20, "owns": True}
CASES = [  # what is different            verdicts           word in the reason or the fix
    ({}, ["pass"], "PostgreSQL 15.20"),
    ({"standby": True}, ["fail"], "name all hosts"),
    ({"owns": False}, ["fail"], "ALTER DATABASE"),
    ({"most": 100, "used": 60}, ["warn"], "max_connections"),
    ({"now": 700.0}, ["pass", "warn"], "300 s ahead of"),
]


@pytest.mark.parametrize(("change", "verdicts", "word"), CASES)
def test_judged(change: dict[str, object], verdicts: list[str], word: str) -> None:
    found = list(judge({**GOOD, **change}, Settings(database="postgresql://bm:secret@db/site"), now=1000.0))
    assert [one.verdict for one in found] == verdicts
    assert word in " ".join(one.reason + one.fix for one in found)
    assert "secret" not in str(found)


def test_with_sqlite_there_is_nothing_to_reach() -> None:
    assert list(database(Settings())) == []


def test_nobody_listens_there() -> None:
    (found,) = database(Settings(database="postgresql://bm@127.0.0.1:1/site"))
    assert (found.verdict, "Connection refused" in found.reason) == ("fail", True)
    assert "postgresql" in found.fix
