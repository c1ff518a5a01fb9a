"""What a machine says of itself may be anything: inspection ends, and what is kept can be served to all others."""

from __future__ import annotations

from typing import Any

import pytest

from baremetal.bootplane.state import State
from baremetal.store import ports
from baremetal.wire.dhcp4.directory import Directory

NICS = [{"mac_address": f"52:54:00:{i >> 16:02x}:{i >> 8 & 255:02x}:{i & 255:02x}"} for i in range(3000)]
HOSTILE = [  # laid over the inventory, how the inspection ends
    ({"system_vendor": {"serial_number": {"a": 1}, "uuid": ["x"]}}, None),
    ({"system_vendor": "x", "boot": "x", "cpu": 7, "memory": []}, None),
    ({"boot": {"current_boot_mode": {"a": 1}}}, None),
    ({"cpu": {"count": {"a": 1}, "architecture": ["x"]}, "memory": {"total": "x", "physical_mb": -1}}, None),
    ({"disks": [{"name": "/dev/sda", "size": "x"}, {"name": "/dev/sdb", "size": 10**30}, "x"]}, None),
    ({"interfaces": "abc"}, None),
    (
        {"interfaces": [{"mac_address": "not a mac"}, {"mac_address": {"a": 1}}, {"mac_address": "zz:54:00:00:00:02"}]},
        None,
    ),
    ({"interfaces": [{"mac_address": "ff:ff:ff:ff:ff:ff"}, {"mac_address": "01:00:5e:00:00:01"}]}, None),
    ({"interfaces": [{"mac_address": ":".join(["80"] * 20)}]}, None),
    ({"interfaces": NICS}, "refused"),
]


@pytest.mark.parametrize(("says", "code"), HOSTILE)
async def test_inspection_ends_and_all_nodes_are_served(bench: Any, says: dict[str, Any], code: str | None) -> None:
    await bench.enroll("n1")
    await bench.until("n1", "manageable")
    await bench.con.write(lambda c: c.exec_driver_sql("UPDATE nodes SET serial = NULL, system_uuid = NULL"))
    bench.rack.boxes["n1"].hardware = says
    await bench.ask("n1", "inspect")
    node = await bench.when("n1", lambda n: n.wanted is None, 20.0)
    assert (node.fault and node.fault.code) == code
    macs = [port.mac for port in bench.store.read(lambda c: ports.of_node(c, node.id))]
    assert macs == [bench.rack.boxes["n1"].mac]
    directory, state = Directory([]), State()
    state.listen(lambda change: directory.update([entry.record for entry in change.nodes]))
    state.load(1, bench.con.snapshot())
    assert len(directory.by_key) == 1


def test_one_odd_record_stops_no_other() -> None:
    directory, state = Directory([]), State()
    state.listen(lambda change: directory.update([entry.record for entry in change.nodes]))
    plain = {"uuid": None, "purpose": "none", "because": "x"}
    docs = [
        {"node": name, "name": name, "boot": {"node_id": name, "name": name, "macs": [mac], **plain}}
        for name, mac in (("odd", "not a mac"), ("good", "52:54:00:00:00:01"))
    ]
    from baremetal.protocol.plane import Snapshot

    state.load(1, Snapshot(nodes=docs))
    assert list(directory.by_key) == [bytes.fromhex("525400000001")]
