"""A BMC address that now names another machine: that machine is not touched."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from baremetal.store import nodes
from baremetal.workflows import registry


async def moved(bench: Any, name: str, url: str) -> None:
    con, now = bench.con, bench.con.clock.now()
    node = await con.write(lambda c: registry.change(c, con.world, con.signer, name, {"bmc_url": url}, now))
    con.touched(node.id)


@pytest.fixture
async def two(bench: Any) -> Any:
    """n1 and n2, both deployed and on."""
    for name in ("n1", "n2"):
        await bench.to(name, "active")
    return bench


ASKED = [("power", "off"), ("power", "reboot"), ("power", "soft-off"), ("verb", "undeploy"), ("verb", "rescue")]


@pytest.mark.parametrize(("how", "what"), ASKED)
async def test_the_other_machine_stays_as_it_is(two: Any, how: str, what: str) -> None:
    await moved(two, "n1", two.node("n2").bmc_url)
    if how == "power":
        await two.power("n1", what)
        node = await two.when("n1", lambda n: n.power_wanted is None)
    else:
        args = {"password": "12345678"} if what == "rescue" else {}
        await two.ask("n1", what, **args)
        node = await two.when("n1", lambda n: n.wanted is None)
    assert two.rack.boxes["n2"].bmc.powered
    assert node.fault is not None
    assert node.fault.code == "bmc-other-machine"
    assert "n1" in node.fault.brief
    assert node.fault.fix


async def test_the_same_machine_at_another_address_goes_on(two: Any) -> None:
    def forget(conn: Any) -> None:  # as a change of the address does
        node = nodes.get(conn, "n1")
        kept = {k: v for k, v in node.properties.items() if k != "bmc"}
        nodes.save(conn, node, dataclasses.replace(node, properties=kept), 1.0)

    await two.con.write(forget)
    await two.power("n1", "off")
    node = await two.when("n1", lambda n: n.power_wanted is None)
    assert node.fault is None
    assert str(node.power) == "off"
    assert "bmc" in node.properties
