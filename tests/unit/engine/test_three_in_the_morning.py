"""What an operator is told and may do while things go wrong, asked through the API as the command line asks it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from baremetal.api.app import create_app
from baremetal.model.node import State
from baremetal.store import boots
from baremetal.workflows.simulated import Timing

SLOW = Timing(post_s=0.3, kernel_s=0.3, inspect_s=3, clean_s=3, write_s=3, first_boot_s=3)
DEPLOY = {"image": "web"}
# (where it rests, verb, its arguments, the fault that makes the machine hang, what it waits for, where abort leaves it)
WAITS = [
    ("manageable", "inspect", {}, "no-dhcp", "network", "inspect failed"),
    ("manageable", "inspect", {}, "no-hello", "network", "inspect failed"),
    ("manageable", "inspect", {}, "", "carries out inspect", "inspect failed"),
    ("manageable", "provide", {}, "no-dhcp", "network", "clean failed"),
    ("manageable", "provide", {}, "", "carries out clean", "clean failed"),
    ("manageable", "clean", {"method": "metadata"}, "", "carries out clean", "clean failed"),
    ("available", "deploy", DEPLOY, "", "carries out write_image", "deploy failed"),
    ("available", "deploy", DEPLOY, "no-first-boot", "the deployed system", "deploy failed"),
    ("active", "rebuild", {}, "no-dhcp", "network", "deploy failed"),
    ("active", "rescue", {"password": "one time"}, "no-dhcp", "network", "rescue failed"),
    ("active", "service", {}, "no-dhcp", "network", "service failed"),
    ("active", "undeploy", {}, "no-dhcp", "network", "clean failed"),
]


@pytest.fixture
async def api(bench: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(bench.con), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


async def ask(api: httpx.AsyncClient, verb: str, **args: Any) -> httpx.Response:
    return await api.put(f"/api/nodes/n1/verbs/{verb}", json=args)


async def told(api: httpx.AsyncClient) -> dict[str, Any]:
    doc: dict[str, Any] = (await api.get("/api/nodes/n1/explain")).json()
    return doc


@pytest.mark.parametrize(("rests", "verb", "args", "fault", "waits", "after"), WAITS)
async def test_every_wait_can_be_aborted_and_the_way_on_is_shown(
    bench: Any, api: httpx.AsyncClient, rests: str, verb: str, args: dict[str, Any], fault: str, waits: str, after: str
) -> None:
    await bench.to("n1", rests)
    bench.rack.timing = SLOW
    box = bench.rack.boxes["n1"]
    if fault:
        box.faults.add(fault)
    if rests == "manageable":
        assert not box.bmc.powered
    assert (await ask(api, verb, **args)).status_code == 202
    await bench.when("n1", lambda n: n.wait is not None and waits in n.wait.because)
    before = await told(api)
    assert "baremetal node abort n1" in before["can"], before
    assert before["next"]
    assert (await ask(api, "abort")).status_code == 202
    node = await bench.when("n1", lambda n: n.wanted is None)
    now = await told(api)
    assert (node.fault.code, now["where"].partition(":")[0]) == ("aborted", after)
    assert f"{verb} was aborted by" in now["why"]
    assert not [line for line in now["can"] if not line.startswith("baremetal ")], "commands, no prose"
    assert [line for line in now["can"] if "abort" not in line or "service" in after], now["can"]
    assert "usually" in now["next"], now["next"]
    live = bench.store.read(lambda c: boots.live(c, node.id)).get("ramdisk")
    assert live is None or not bench.rack.views[node.id].order, "no order stays in an agent's hands"


async def test_what_was_aborted_and_is_asked_again_begins_with_all_its_patience(make_bench: Any) -> None:
    async with make_bench(post_s=60.0, boot_tries=5) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        box = bench.rack.boxes["n1"]
        box.faults.add("no-dhcp")
        await bench.ask("n1", "inspect")
        await bench.when("n1", lambda n: n.wait is not None)
        await bench.ask("n1", "abort")
        await bench.when("n1", lambda n: n.wanted is None)
        await bench.store.write(lambda c: boots.shift_times(c, -100.0))  # it was long ago
        await bench.ask("n1", "inspect")
        node = await bench.when("n1", lambda n: n.wait is not None)
        assert "try 1 of 5" in node.wait.because
        assert node.fault is None


async def test_who_stands_in_line_can_be_taken_out_of_it(make_bench: Any) -> None:
    async with make_bench(inspect_limit=1) as bench:
        for name in ("n1", "n2"):
            await bench.enroll(name)
            await bench.until(name, "manageable")
        await bench.stand_in_line(inspect_s=30)
        await bench.ask("n2", "abort")
        node = await bench.when("n2", lambda n: n.wanted is None)
        assert (node.state, node.work.get("ask"), node.fault) == (State.MANAGEABLE, None, None)
        await bench.ask("n1", "abort")
        await bench.when("n1", lambda n: n.wanted is None)
        await bench.ask("n1", "inspect")
        await bench.when("n1", lambda n: n.state is State.INSPECTING and n.wanted is not None and n.wait is not None)


def be_patient(bench: Any) -> None:
    """From now on a slow test machine is no dead machine."""
    bench.con.world.policy = dataclasses.replace(bench.con.world.policy, post_s=60.0)


async def test_failed_nodes_that_are_asked_again_do_not_fill_the_limit_with_themselves(make_bench: Any) -> None:
    """A switch was down, all deploys failed; then all are asked again at once."""
    names = [f"n{i}" for i in range(6)]
    async with make_bench(inspect_limit=2, boot_tries=1, post_s=0.2) as bench:
        for name in names:
            await bench.enroll(name)
            await bench.until(name, "manageable")
            bench.rack.boxes[name].faults.add("no-dhcp")
        for _ in range(2):
            for name in names:
                await bench.ask(name, "inspect")
            for name in names:
                await bench.when(name, lambda n: n.wanted is None)
        assert {bench.node(name).state for name in names} == {State.INSPECTING}
        be_patient(bench)
        for name in names:
            bench.rack.boxes[name].faults.clear()
            await bench.ask(name, "inspect")
        for name in names:
            node = await bench.until(name, "manageable")
            assert (node.state, node.fault) == (State.MANAGEABLE, None)


async def test_a_failed_node_that_stands_in_line_keeps_its_fault_when_taken_out(make_bench: Any) -> None:
    async with make_bench(inspect_limit=1, boot_tries=1, post_s=0.2) as bench:
        for name in ("n1", "n2"):
            await bench.enroll(name)
            await bench.until(name, "manageable")
        bench.rack.boxes["n2"].faults.add("no-dhcp")
        await bench.ask("n2", "inspect")
        failed = await bench.when("n2", lambda n: n.wanted is None)
        be_patient(bench)
        await bench.stand_in_line(inspect_s=30)
        await bench.ask("n2", "abort")
        node = await bench.when("n2", lambda n: n.wanted is None)
        assert (node.state, node.fault) == (State.INSPECTING, failed.fault)


async def test_a_silent_bmc_does_not_keep_a_verb_from_being_aborted(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    bench.rack.boxes["n1"].bmc.faults.add("silent")
    await ask(api, "inspect")
    await bench.when("n1", lambda n: n.fault is not None and n.wanted is not None)
    doc = await told(api)
    assert doc["why"].count("BMC silent") == 1, doc["why"]
    assert (await ask(api, "abort")).status_code == 202
    assert (await bench.when("n1", lambda n: n.wanted is None)).fault.code == "aborted"


async def test_steering_a_node_at_rest_advises_nothing_that_takes_data_away(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "active")
    for verb in ("abort", "hold", "unhold", "deploy", "inspect", "provide", "clean", "manage"):
        answer = await ask(api, verb, **(DEPLOY if verb == "deploy" else {}))
        assert answer.status_code == 409, verb
        assert "rebuild" not in answer.json()["error"]["fix"], verb
        assert "undeploy" not in answer.json()["error"]["fix"], verb


async def test_flags_are_said_and_how_they_are_taken_away(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    for change, why, way, back in (
        ({"retired": True}, "retired", "baremetal node set n1 --not-retired", {"retired": False}),
        ({"maintenance": "bad fan"}, "bad fan", "baremetal node maintenance n1 --off", {"maintenance": None}),
        ({"protected": True}, "protected", "baremetal node set n1 --unprotected", {"protected": False}),
    ):
        await api.patch("/api/nodes/n1", json=change)
        doc = await told(api)
        assert why in doc["why"]
        assert way in doc["can"]
        if "protected" not in change:
            check = (await api.get("/api/nodes/n1/validate")).json()["checks"]
            assert next(c for c in check if c["name"] == "deployable")["fix"] == way
        await api.patch("/api/nodes/n1", json=back)


async def test_a_deployed_machine_that_is_off_is_not_called_running(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "active")
    assert "running" in (await told(api))["why"]
    await bench.power("n1", "off")
    await bench.when("n1", lambda n: n.power_wanted is None)
    assert "off" in (await told(api))["why"]


async def test_a_boot_that_has_just_begun_is_not_diagnosed(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-dhcp")
    await ask(api, "inspect")
    await bench.when("n1", lambda n: n.wait is not None)
    assert (await told(api))["likely"] == []
    now = bench.con.clock.now
    bench.con.clock.now = lambda: now() + 60
    try:
        assert "no DHCP" in (await told(api))["likely"][0]["cause"]
    finally:
        bench.con.clock.now = now


async def test_what_was_seen_since_a_wait_began_is_said(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-hello")
    await ask(api, "inspect")
    await bench.when("n1", lambda n: n.wait is not None)
    async with asyncio.timeout(90):
        while "kernel" not in (doc := await told(api))["why"]:
            await bench.con.wait_for_change(0.5)
    assert doc["why"] == "waiting: last seen: kernel vmlinuz; the ramdisk must say hello"


async def test_a_record_that_may_not_be_deleted_names_the_way_there(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-dhcp")
    await ask(api, "inspect")
    await bench.when("n1", lambda n: n.wait is not None)
    assert "baremetal node abort n1" in (await api.delete("/api/nodes/n1")).json()["error"]["fix"]
    await ask(api, "abort")
    await bench.when("n1", lambda n: n.wanted is None)
    assert (await api.delete("/api/nodes/n1")).json()["error"]["fix"] == "baremetal node manage n1"
    await ask(api, "manage")
    await bench.until("n1", "manageable")
    assert (await api.delete("/api/nodes/n1")).status_code == 204


async def test_steps_stand_in_the_timeline_before_the_state_they_led_to(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "available")
    stages = [s["stage"] for s in (await api.get("/api/nodes/n1/timeline")).json()["stages"]]
    assert stages.index("clean.finish") < stages.index("available")
    assert stages.index("cleaning") < stages.index("clean.boot_ramdisk")


async def test_the_timeline_after_an_abort_still_shows_what_was_aborted(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    bench.rack.boxes["n1"].faults.add("no-dhcp")
    await ask(api, "inspect")
    await bench.when("n1", lambda n: n.wait is not None)
    await ask(api, "abort")
    await bench.when("n1", lambda n: n.wanted is None)
    stages = [s["stage"] for s in (await api.get("/api/nodes/n1/timeline")).json()["stages"]]
    assert [s for s in stages if s in ("asked inspect", "inspect.boot_ramdisk", "asked abort", "fault aborted")] == [
        "asked inspect",
        "inspect.boot_ramdisk",
        "asked abort",
        "fault aborted",
    ]


async def test_history_says_who_set_which_flag_and_why(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    ann = {"x-baremetal-user": "ann"}
    for change in ({"maintenance": "bad fan"}, {"maintenance": None}, {"protected": True}, {"retired": True}):
        await api.patch("/api/nodes/n1", json=change, headers=ann)
    found = (await api.get("/api/nodes/n1/history")).json()["events"]
    told = [(e["stage"], e["data"]) for e in found if e["source"] == "ann"]
    assert told == [
        ("maintenance", {"reason": "bad fan"}),
        ("maintenance over", {}),
        ("protected", {}),
        ("retired", {}),
    ]


async def test_of_many_who_ask_at_once_one_is_heard_and_the_others_are_told_who(
    bench: Any, api: httpx.AsyncClient
) -> None:
    await bench.to("n1", "manageable")
    bench.rack.timing = SLOW  # who is heard is not through before the last has asked
    verbs = ["inspect", "provide", "clean", "adopt", "manage"] * 4

    async def one(number: int, verb: str) -> tuple[str, httpx.Response]:
        who = f"op{number}"
        return who, await api.put(f"/api/nodes/n1/verbs/{verb}", json={}, headers={"x-baremetal-user": who})

    answers = await asyncio.gather(*(one(number, verb) for number, verb in enumerate(verbs)))
    heard = [who for who, answer in answers if answer.status_code == 202]
    assert len(heard) == 1, heard
    for who, answer in answers:
        if who not in heard:
            assert answer.status_code == 409, answer.text
            assert f"by {heard[0]}" in answer.json()["error"]["brief"]
            assert "s ago" in answer.json()["error"]["brief"]


@pytest.mark.parametrize(
    ("verb", "args", "status", "says"),
    [
        ("frobnicate", {}, 400, "is not a verb"),
        ("deploy", {}, 409, "clean wait"),
        ("inspect", {}, 409, "provide by"),
        ("provide", {}, 409, "s ago"),
        ("abort", {"now": True}, 400, "does not know now"),
    ],
)
async def test_wishes_that_contradict_what_is_under_way(
    bench: Any, api: httpx.AsyncClient, verb: str, args: dict[str, Any], status: int, says: str
) -> None:
    await bench.to("n1", "manageable")
    bench.rack.timing = SLOW
    await ask(api, "provide")
    await bench.when("n1", lambda n: n.wait is not None and n.step == "clean.erase_devices_metadata")
    answer = await ask(api, verb, **args)
    assert answer.status_code == status, answer.text
    assert says in answer.text
    assert answer.json()["error"]["fix"]
    assert (await bench.until("n1", "available")).fault is None


async def test_a_kind_of_event_that_does_not_exist_is_told(bench: Any, api: httpx.AsyncClient) -> None:
    await bench.to("n1", "manageable")
    answer = await api.get("/api/events?kind=stat")
    assert (answer.status_code, "state" in answer.json()["error"]["fix"]) == (400, True)
    assert (await api.get("/api/events?kind=state")).json()["events"]
