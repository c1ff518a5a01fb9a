"""What Prometheus reads, read by its own parser."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from baremetal.api.app import create_app


async def test_prometheus_understands_our_metrics(bench: Any) -> None:
    bench.rack.add("n1", password="other")
    await bench.enroll_body(bench.rack.body("n1"))
    await bench.until("n1", "manageable")
    await bench.to("n2", "available")
    transport = httpx.ASGITransport(app=create_app(bench.con))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        text = (await client.get("/metrics")).text
    found = {
        f.name: {tuple(s.labels.values()): s.value for s in f.samples} for f in text_string_to_metric_families(text)
    }
    assert found["baremetal_nodes"] == {("available",): 1, ("enroll",): 1}
    assert found["baremetal_node_faults"] == {("bmc-auth",): 1}
    assert found["baremetal_engine_passes"][()] > 5
    assert all(family.documentation for family in text_string_to_metric_families(text))


async def test_the_drive_names_every_network_and_the_ssh_keys(bench: Any) -> None:
    import dataclasses
    import json

    from baremetal.model.network import Network
    from baremetal.protocol import configdrive
    from baremetal.workflows import metadata

    nets = [
        Network(f"net{i}", f"eth{i}", f"10.{i}.0.0/24", f"10.{i}.0.1", f"10.{i}.0.10", f"10.{i}.0.99") for i in (1, 2)
    ]
    world = bench.con.world
    world.site = dataclasses.replace(world.site, networks=tuple(nets), https_url="https://10.1.0.1:8443")
    values = {"ssh": {"keys": {"ann": "ssh-ed25519 AAAA"}}}
    sealer = world.metadata
    change = metadata.Change("site", "", values, by="test")
    await bench.store.write(lambda c: metadata.set_layer(c, sealer, bench.con.signer, change, 1.0))
    await bench.to("n1", "active")
    drive = configdrive.read(configdrive.unpack(bench.rack.boxes["n1"].disk))
    assert json.loads(drive["baremetal/agent.json"])["urls"] == ["https://10.1.0.1:8443", "https://10.2.0.1:8443"]
    assert json.loads(drive["openstack/latest/meta_data.json"])["public_keys"] == {"ann": "ssh-ed25519 AAAA"}
