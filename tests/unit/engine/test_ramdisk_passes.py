"""What passes make of the ramdisk: rescue, steps, RAID, foreign data, proof, diskless, data partitions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from baremetal.errors import UsageError
from baremetal.model.boot import Purpose
from baremetal.model.node import Node, State
from baremetal.store import boots, events, nodes, orders
from baremetal.workflows import snapshot, views
from baremetal.workflows.simulated import SimulatedImage, SimulatedImages
from baremetal.workflows.site import Ramdisk

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGsXYwvmYiuIoEEqwAKOTnROVdNe operator@desk"


def stages(bench: Any, node: Node, kind: str = "step") -> list[str]:
    told = bench.store.read(lambda c: events.of_node(c, node.id, kinds=[kind]))
    return [e.stage for e in told]


def last_order(bench: Any, node: Node, kind: str) -> dict[str, Any]:
    found = bench.store.read(lambda c: orders.of_node(c, node.id))
    return dict(next(o for o in found if o.kind == kind).args)


async def test_rescue_lets_one_person_in_and_keeps_no_password(bench: Any) -> None:
    await bench.to("n1", "active")
    await bench.ask("n1", "rescue", password="one-time word", authorized_keys=[KEY], ssh={"dial": "192.0.2.9:2222"})
    node = await bench.until("n1", "rescue")
    assert node.extra["rescue"]["consoles"] == ["ttyS0"]
    told = bench.rack.boxes["n1"].let_in
    assert told["password_hash"].startswith("$6$")
    assert told["ssh"] == {"dial": "192.0.2.9:2222"}
    assert "one-time word" not in bench.path.joinpath("test.db").read_bytes().decode("latin-1")
    assert "rescue-open" in stages(bench, node, "security")
    await bench.ask("n1", "unrescue")
    node = await bench.until("n1", "active")
    assert "rescue" not in node.extra


async def test_abort_of_a_failed_service_boots_what_is_deployed(bench: Any) -> None:
    node = await bench.to("n1", "active")
    await bench.ask("n1", "service", steps=[{"step": "run_script", "args": {"script": "not-there", "timeout_s": 60}}])
    box = bench.rack.boxes["n1"]
    box.faults.add("agent-dies")
    await bench.when("n1", lambda n: n.wait is not None)
    await bench.ask("n1", "abort")
    await bench.when("n1", lambda n: n.fault is not None)
    box.faults.clear()
    seen = {e.id for e in bench.store.read(lambda c: events.of_node(c, node.id))}
    await bench.ask("n1", "abort")
    node = await bench.until("n1", "active")
    assert node.fault is None
    new = [e for e in bench.store.read(lambda c: events.of_node(c, node.id)) if e.id not in seen]
    begun = [e.stage for e in new if e.kind == "step" and e.stage.startswith("service.")]
    assert sorted(set(begun)) == ["service.boot_device", "service.power_off", "service.power_on"]
    assert not bench.store.read(lambda c: boots.live(c, node.id)).get("ramdisk")


REFUSED = [
    ({}, "which password or key"),
    ({"password": "short"}, "8 to 128"),
    ({"authorized_keys": [KEY]}, "lets nobody in"),
    ({"authorized_keys": ['command="x" ' + KEY], "ssh": {"listen": 22}}, "without options"),
    ({"password": "long enough", "ssh": {"listen": 99999}}, "ssh is"),
    ({"password": "long enough", "ssh": {"dial": "nowhere"}}, "ssh is"),
    ({"password": "long enough", "ssh": {"dial": "a:1", "listen": 22}}, "ssh is"),
]


@pytest.mark.parametrize(("args", "words"), REFUSED)
async def test_rescue_that_would_let_nobody_or_too_many_in(bench: Any, args: dict[str, Any], words: str) -> None:
    await bench.to("n1", "active")
    with pytest.raises(UsageError, match=words):
        await bench.ask("n1", "rescue", **args)


async def test_foreign_data_wants_the_operators_word(bench: Any) -> None:
    node = await bench.enroll("n1")
    box = bench.rack.boxes["n1"]
    box.content = ["gpt", "partition 1 'data': ext"]
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "cleaning")
    assert (node.fault.code, box.wiped) == ("foreign-data", 0)
    assert "--erase-foreign" in node.fault.fix
    await bench.ask("n1", "manage")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide", erase_foreign=True)
    node = await bench.until("n1", "available")
    assert box.wiped == 1
    # From here on the disk is ours: what a tenant leaves on it is erased without asking.
    box.content = ["luks"]
    await bench.ask("n1", "manage")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "available")
    assert box.wiped == 2
    assert "foreign" not in last_order(bench, node, "clean")["disks"][0]


async def test_a_property_gives_disks_up_for_tools_that_cannot_say_it(bench: Any) -> None:
    await bench.enroll("n1", properties={"erase_foreign": True})
    bench.rack.boxes["n1"].content = ["gpt"]
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    assert (await bench.until("n1", "available")).fault is None


async def test_a_clean_without_proof_is_no_clean(bench: Any) -> None:
    await bench.enroll("n1")
    bench.rack.boxes["n1"].faults.add("clean-unproved")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "cleaning")
    assert node.fault.code == "clean-incomplete"


async def test_the_proof_is_kept_as_an_event(bench: Any) -> None:
    node = await bench.to("n1", "available")
    told = bench.store.read(lambda c: events.of_node(c, node.id, kinds=["step"]))
    erased = next(e for e in told if e.stage == "erased")
    assert erased.data["disks"][0] == {
        "name": "/dev/sda", "serial": "S-n1", "method": "metadata", "bytes_verified": 2**20,
        **{k: erased.data["disks"][0][k] for k in ("wwn", "size", "discarded", "seconds")},
    }  # fmt: skip


async def test_proofs_of_many_disks_are_whole_and_outlive_other_events(bench: Any) -> None:
    await bench.to("n1", "manageable")
    disks = [{"name": f"/dev/sd{n}", "serial": f"S-{n:02}-{'x' * 30}", "size": 64 * 10**9} for n in range(24)]
    bench.rack.boxes["n1"].hardware = {"disks": disks}
    await bench.ask("n1", "inspect")
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "available")
    await bench.store.write(lambda c: events.prune(c, node.state_since + 1e9))
    told = bench.store.read(lambda c: events.of_node(c, node.id))
    assert {e.stage for e in told} == {"erased"}
    found = [p for e in bench.store.read(events.proofs) for p in views.proof_json(e)]
    assert [p["serial"] for p in found] == [d["serial"] for d in disks]
    assert all((p["node"], p["method"], p["bytes_verified"]) == ("n1", "metadata", 2**20) for p in found)


async def test_wanted_raid_is_made_after_every_clean_and_deployed_to(bench: Any) -> None:
    raid = {"logical_disks": [{"raid_level": "1", "size_gb": "MAX"}]}
    await bench.enroll("n1", properties={"raid": raid})
    await bench.until("n1", "manageable")
    await bench.ask("n1", "provide")
    node = await bench.until("n1", "available")
    assert "raid-created" in stages(bench, node)
    await bench.ask("n1", "deploy", image="web")
    node = await bench.until("n1", "active")
    args = last_order(bench, node, "write_image")
    assert (args["raid"], args["root_device"]) == (True, {"name": "/dev/md0"})


async def test_raid_by_ironics_steps(bench: Any) -> None:
    node = await bench.to("n1", "manageable")
    make = {"interface": "raid", "step": "create_configuration", "args": {"logical_disks": [{"raid_level": "0"}]}}
    await bench.ask("n1", "clean", steps=[make])
    node = await bench.until("n1", "manageable")
    assert node.properties["raid"]["logical_disks"] == [{"raid_level": "0"}]
    assert stages(bench, node).count("raid-created") == 1, "not once more because it is wanted now"
    await bench.ask("n1", "clean", steps=[{"step": "run_script", "args": {"script": "look"}}])
    node = await bench.until("n1", "manageable")
    assert (node.fault, stages(bench, node).count("raid-created")) == (None, 1), "nothing was erased: it stays"
    await bench.ask("n1", "clean", steps=[{"interface": "raid", "step": "delete_configuration"}])
    node = await bench.until("n1", "manageable")
    assert "raid" not in node.properties
    assert "raid-deleted" in stages(bench, node)


async def test_programs_of_elements_run_in_service_and_cleaning(bench: Any) -> None:
    await bench.to("n1", "active")
    step = {"step": "run_script", "args": {"script": "firmware", "args": {"to": "2.1"}}}
    await bench.ask("n1", "service", steps=[step])
    node = await bench.until("n1", "active")
    assert "script firmware" in stages(bench, node)
    assert node.fault is None
    await bench.ask("n1", "service", steps=[{"step": "run_script", "args": {"script": "broken"}}])
    node = await bench.until("n1", "servicing")
    assert (node.fault.code, node.fault.detail) == ("step-failed", "no such card")


async def test_rebuild_keeps_a_partition_and_deploy_makes_one(bench: Any) -> None:
    node = await bench.to("n1", "available")
    await bench.ask("n1", "deploy", image="web", data_partition={"name": "data", "size_gib": 20})
    node = await bench.until("n1", "active")
    assert last_order(bench, node, "write_image")["data_partition"] == {"name": "data", "size_gib": 20}
    await bench.ask("n1", "rebuild", preserve=["data"])
    node = await bench.until("n1", "active")
    assert last_order(bench, node, "write_image")["preserve"] == ["data"]


async def test_an_image_is_said_to_lie_at_every_server(bench: Any) -> None:
    node = await bench.to("n1", "active")
    assert "image_urls" not in last_order(bench, node, "write_image"), "one server: one place"
    others = ("https://127.0.0.1:8443", "https://10.0.0.2:8443", "https://[fd00::3]:8443")
    bench.con.world.site = dataclasses.replace(bench.con.world.site, peers=others)
    await bench.ask("n1", "rebuild", image="web")
    node = await bench.until("n1", "active")
    args = last_order(bench, node, "write_image")
    path = args["image_url"].partition("8080")[2]
    assert args["image_urls"] == [f"http://{host}:8080{path}" for host in ("127.0.0.1", "10.0.0.2", "[fd00::3]")]
    assert args["signature_urls"][1].startswith("https://10.0.0.2:8443/images/")
    assert args["manifest_urls"][0] == args["manifest_url"]


async def test_a_diskless_node_boots_its_image_from_the_network_every_time(bench: Any) -> None:
    image = SimulatedImage(id="sha256:" + "d" * 64, name="memory", kind="ramdisk", properties={"use": "diskless"})
    bench.con.world.images = SimulatedImages(SimulatedImage(), image)
    run = Ramdisk("dddd-vmlinuz", "dddd-initrd", "quiet")
    bench.con.set_site(dataclasses.replace(bench.con.world.site, netboot={image.id: run}))
    await bench.to("n1", "available")
    box = bench.rack.boxes["n1"]
    wiped = (box.wiped, box.written)
    await bench.ask("n1", "deploy", image="memory")
    node = await bench.until("n1", "active")
    assert (node.image_id, node.fault, box.written) == (image.id, None, wiped[1])
    view = bench.store.read(lambda c: snapshot.view_of(c, bench.con.world, node.id))
    assert (view.boot["purpose"], view.boot["kernel"]) == (Purpose.NETBOOT, "dddd-vmlinuz")
    assert str(box.bmc.starts[-1].device) == "pxe"
    assert not box.bmc.starts[-1].once
    await bench.ask("n1", "undeploy")
    node = await bench.until("n1", "available")
    assert node.state is State.AVAILABLE


async def test_a_ramdisk_hears_of_the_other_servers(bench: Any) -> None:
    site = bench.con.world.site
    bench.con.set_site(dataclasses.replace(site, peers=(site.https_url, "https://192.0.2.2:8443")))
    seen: list[dict[str, Any]] = []
    bench.con.on_push(lambda views, gone: seen.extend(v.boot for v in views))
    await bench.to("n1", "available")
    lines = {boot["cmdline"] for boot in seen if boot["purpose"] == Purpose.RAMDISK}
    assert lines == {"baremetal.also=https://192.0.2.2:8443"}


async def test_orders_that_change_the_machine_are_signed(bench: Any) -> None:
    seen: list[dict[str, Any]] = []
    bench.con.on_push(lambda views, gone: seen.extend(v.order for v in views if v.order))
    await bench.to("n1", "available")
    by_kind = {order["kind"]: order for order in seen}
    assert by_kind["clean"]["signature"]
    assert "signature" not in by_kind["inspect"]
    assert bench.store.read(lambda c: nodes.get(c, "n1")).state is State.AVAILABLE
