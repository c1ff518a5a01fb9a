"""Who gets a token: the nonce of this boot, once, in time; everything else is refused and noted."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from baremetal.errors import BaremetalError
from baremetal.protocol import nonce
from baremetal.protocol.agent import Hello, Report
from baremetal.protocol.plane import Message
from baremetal.store import boots, events, nodes
from baremetal.workflows import causes


@pytest.fixture
async def waiting(bench: Any) -> Any:
    """A node whose ramdisk boot waits for its hello."""
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-kernel")
    await bench.ask("n1", "inspect")
    await bench.when("n1", lambda n: n.wait is not None and n.step == "inspect.boot_ramdisk" and bool(n.boot_id))
    while (await hello_boot(bench)).nonce_serial is None:  # the script was handed out and that is stored
        await bench.con.wait_for_change(1.0)
    return bench


def made(bench: Any, at_ms: int | None = None, **other: Any) -> str:
    view = bench.rack.view(bench.rack.boxes["n1"])
    args = {"nonce_key": view.nonce_key, "node": view.node, "boot_id": view.boot["boot_id"], **other}
    return nonce.make(now_ms=at_ms or int(time.time() * 1000), **args)


async def hello(bench: Any, text: str, **fields: Any) -> dict[str, Any]:
    word = Hello(text, fields.pop("macs", [bench.rack.boxes["n1"].mac]), **fields)
    answer: dict[str, Any] = await bench.con.inbox.call("hello", {"hello": word.to_json(), "source": "10.0.0.9"})
    return answer


async def test_the_right_nonce_gives_a_token_of_which_only_the_hash_is_kept(waiting: Any) -> None:
    answer = await hello(waiting, made(waiting))
    assert len(answer["token"]) == 64
    assert (await hello_boot(waiting)).token_sha256 != answer["token"]
    assert waiting.rack.view(waiting.rack.boxes["n1"]).nonce_key is None, "after hello no script is made any more"


async def hello_boot(bench: Any) -> boots.Boot:
    found: boots.Boot = bench.store.read(lambda c: boots.live(c, bench.node("n1").id))["ramdisk"]
    return found


REFUSED = [  # how the nonce is wrong
    ("garbage", lambda b: "x"),
    ("another key", lambda b: made(b, nonce_key="00" * 32)),
    ("another boot", lambda b: made(b, boot_id="f" * 32)),
    ("another node", lambda b: made(b, node="someone")),
    ("too old", lambda b: made(b, int(time.time() * 1000) - 601_000)),
    ("replaced by a later script", lambda b: made(b, int(time.time() * 1000) - 5_000)),
]


@pytest.mark.parametrize(("how", "make"), REFUSED)
async def test_a_wrong_nonce_is_refused_and_noted(waiting: Any, how: str, make: Any) -> None:
    with pytest.raises(BaremetalError) as caught:
        await hello(waiting, make(waiting))
    assert (caught.value.code, caught.value.http_status) == ("nonce-refused", 403)  # type: ignore[attr-defined]
    node = waiting.node("n1")
    alarms = waiting.store.read(lambda c: events.of_node(c, node.id, kinds=["security"]))
    assert len(alarms) == 1
    assert alarms[0].data["source"] == "10.0.0.9"


async def test_a_used_nonce_is_good_once_more_only_while_its_token_was_never_used(waiting: Any) -> None:
    text = made(waiting)
    first = await hello(waiting, text)
    second = await hello(waiting, text)
    assert first["token"] != second["token"], "the lost answer's token is dead"
    boot = await hello_boot(waiting)
    beat = Message("b1", "beat", time.time() + 1, waiting.node("n1").id, {"boot_id": boot.id, "agent": "ramdisk"})
    await waiting.con.inbox.messages([beat])
    with pytest.raises(BaremetalError, match="used already"):
        await hello(waiting, text)


async def test_a_stranger_learns_nothing(waiting: Any) -> None:
    with pytest.raises(BaremetalError, match="no node has"):
        await hello(waiting, made(waiting), macs=["52:54:00:ff:ff:ff"])


async def test_messages_are_idempotent_and_a_bad_one_blocks_nothing(waiting: Any) -> None:
    node = waiting.node("n1")
    good = Message("m1", "boot-seen", time.time(), node.id, {"mac": "x", "arch": "bios", "loader": "firmware"})
    bad = [
        Message("m2", "teapot", time.time(), node.id, {}),
        Message("m3", "report", time.time(), node.id, {"report": {}}),
        Message("m4", "report", time.time(), node.id, {"report": Report("nobody", "done").to_json()}),
        Message("m5", "lease", time.time(), None, {"mac": None}),
    ]
    await waiting.con.inbox.messages([*bad, good])
    await waiting.con.inbox.messages([good, *bad, good])
    told = waiting.store.read(lambda c: events.of_node(c, node.id))
    from_boot = sorted(e.id for e in told if e.source == "boot" and e.id.startswith("m-m"))
    assert from_boot == ["m-m1", "m-m2", "m-m3", "m-m4"], "each once, the bad ones as dropped"


async def test_a_deleted_nodes_messages_are_kept_without_it(waiting: Any) -> None:
    node = waiting.node("n1")
    await waiting.store.write(lambda c: nodes.delete(c, node.id))
    late = Message("m9", "boot-seen", time.time(), node.id, {"arch": "bios"})
    await waiting.con.inbox.messages([late])
    assert any(e.id == "m-m9" for _, e in waiting.store.read(lambda c: events.after(c, 0)))


async def test_a_flood_of_refused_hellos_fills_no_database(waiting: Any) -> None:
    for _ in range(200):
        with pytest.raises(BaremetalError):
            await hello(waiting, "x")
    node = waiting.node("n1")
    alarms = waiting.store.read(lambda c: events.of_node(c, node.id, kinds=["security"]))
    assert 30 <= len(alarms) < 60
    assert (await hello(waiting, made(waiting)))["token"], "the right one still gets in"


@pytest.fixture
async def inspected(make_bench: Any) -> Any:
    """A node that was inspected and is off; its next boot stops before its hello."""
    async with make_bench(fast_track=False) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        await bench.ask("n1", "inspect")
        await bench.until("n1", "manageable")
        bench.rack.boxes["n1"].faults.add("no-kernel")
        yield bench


async def begin(bench: Any, verb: str) -> str:
    """Its ramdisk boots for this verb; the nonce of its script."""
    await bench.ask("n1", verb)
    await bench.when("n1", lambda n: n.wait is not None and "boot_ramdisk" in (n.step or "") and bool(n.boot_id))
    while (await hello_boot(bench)).nonce_serial is None:
        await bench.con.wait_for_change(1.0)
    return made(bench)


async def test_another_machine_with_the_same_mac_gets_no_order(inspected: Any) -> None:
    text = await begin(inspected, "provide")
    with pytest.raises(BaremetalError, match="another machine has the MAC of n1") as caught:
        await hello(inspected, text, uuid=str(uuid.uuid4()))
    assert "doubled MAC" in caught.value.fix
    node = inspected.node("n1")
    alarm = inspected.store.read(lambda c: events.of_node(c, node.id, kinds=["security"]))[-1]
    assert "doubled MAC" in alarm.data["fix"]
    cause = causes.boot_stopped(await hello_boot(inspected), [alarm], [])
    assert (cause.code, "another machine" in cause.brief, "doubled MAC" in cause.fix) == (
        "boot-hello-refused",
        True,
        True,
    )
    assert (await hello(inspected, text, uuid=inspected.rack.boxes["n1"].bmc.uuid))["token"], "the right one gets in"


SAME = {  # what the machine says of itself, and it is let in
    "the same in capitals": lambda known: known.upper(),
    "the first three fields swapped": lambda known: str(uuid.UUID(bytes=uuid.UUID(known).bytes_le)),
    "nothing": lambda known: None,
    "a board that never got one": lambda known: "ffffffff-ffff-ffff-ffff-ffffffffffff",
}


@pytest.mark.parametrize("how", SAME)
async def test_the_same_machine_is_known_however_it_writes_its_uuid(inspected: Any, how: str) -> None:
    text = await begin(inspected, "provide")
    assert (await hello(inspected, text, uuid=SAME[how](inspected.rack.boxes["n1"].bmc.uuid)))["token"]


async def test_a_new_mainboard_gets_known_by_inspecting(inspected: Any) -> None:
    text = await begin(inspected, "inspect")
    assert (await hello(inspected, text, uuid=str(uuid.uuid4())))["token"]


ODD = [{"agent": "x" * 60_000}, {"version": "x" * 60_000}, {"firmware": "y" * 500}, {"macs": [{"a": 1}]}, {"nonce": 7}]


@pytest.mark.parametrize("fields", ODD)
async def test_a_hello_of_odd_words_is_refused(waiting: Any, fields: dict[str, Any]) -> None:
    doc = {**Hello(made(waiting), [waiting.rack.boxes["n1"].mac]).to_json(), **fields}
    with pytest.raises(BaremetalError) as caught:
        await waiting.con.inbox.call("hello", {"hello": doc, "source": "10.0.0.9"})
    assert caught.value.code == "nonce-refused"
