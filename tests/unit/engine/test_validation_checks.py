"""Validation groups: each check is a file, is named in ORDER, and says reason and fix; what the wire shows counts."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baremetal.model.event import Event, Kind
from baremetal.model.network import Network
from baremetal.store import events
from baremetal.workflows import checks, probes

NETWORK = Network("prov", "prov0", "192.168.90.0/24", "127.0.0.1", "192.168.90.100", "192.168.90.200")


def test_each_check_is_one_file_and_has_its_place() -> None:
    known = checks.all_checks()
    files = {path.stem.replace("_", "-") for path in Path(checks.__file__).parent.glob("[a-z]*.py")}
    assert {one.name for one in known} == files
    assert set(checks.ORDER) <= files
    assert len(known) == len(files)
    assert {group for one in known for group in one.groups} == set(checks.GROUPS)


async def _one(bench: Any, name: str) -> checks.Verdict:
    node = bench.node("n1")
    facts = checks.Facts(bench.con.world, node, [], None, None, None)
    return await next(one for one in checks.all_checks() if one.name == name).check(facts)


async def _rival(bench: Any, age_s: float) -> None:
    now = time.time() - age_s
    what = {"detail": "192.168.90.7 (52:54:00:00:00:07) answers DHCP on prov0 too"}
    event = Event(f"r-{age_s}", now, None, Kind.SERVER, "dhcp:prov:rival", "boot", data=what)
    await bench.con.write(lambda c: events.add_all(c, [event]))


@pytest.mark.parametrize(
    ("age_s", "proxy", "verdict"),
    [(None, False, "pass"), (60, False, "fail"), (60, True, "pass"), (7200, False, "pass")],
)
async def test_a_rival_heard_lately_fails_and_names_it(
    bench: Any, age_s: float | None, proxy: bool, verdict: str
) -> None:
    await bench.enroll("n1")
    bench.con.set_site(replace(bench.con.world.site, networks=(replace(NETWORK, proxy=proxy),)))
    if age_s is not None:
        await _rival(bench, age_s)
    found = await _one(bench, "rival-dhcp")
    assert found.verdict == verdict
    assert verdict == "pass" or ("192.168.90.7" in found.reason and "proxy = true" in found.fix)


async def test_a_loader_that_does_not_come_fails_with_the_way_on(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.enroll("n1")
    assert (await _one(bench, "loaders-fetchable")).verdict == "skip"
    monkeypatch.setattr(probes, "TFTP_TIMEOUT_S", 0.2)
    bench.con.set_site(replace(bench.con.world.site, networks=(NETWORK,), tftp_port=1))
    found = await _one(bench, "loaders-fetchable")
    assert (found.verdict, "undionly.kpxe" in found.reason) == ("fail", True)
    assert "baremetal doctor" in found.fix


async def test_the_clock_is_right_here(bench: Any) -> None:
    await bench.enroll("n1")
    assert (await _one(bench, "clock")).verdict == "pass"
