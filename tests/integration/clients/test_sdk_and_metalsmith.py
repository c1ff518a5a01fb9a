"""openstacksdk's baremetal proxy with its wait helpers, and metalsmith, unmodified."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def test_the_sdk_and_its_wait_helpers(venv: Path, server: str) -> None:
    program = f"""
import openstack
c = openstack.connect(auth_type="none", endpoint={server!r}, baremetal_endpoint_override={server!r})
b = c.baremetal
n = b.create_node(driver="fake-hardware", name="s1", resource_class="sdk", provision_state="enroll")
p = b.create_port(node_id=n.id, address="52:54:00:5d:00:01")
assert [x.id for x in b.ports(node=n.id)] == [p.id]
b.set_node_provision_state(n, "manage", wait=True, timeout=240)
b.set_node_power_state(n, "power on", wait=True, timeout=240)
b.wait_for_node_power_state(n, "power on", timeout=240)
b.set_node_provision_state(n, "provide", wait=True, timeout=240)
b.wait_for_nodes_provision_state([n], "available", timeout=240)
b.set_node_traits(n, ["CUSTOM_A"])
assert b.get_node(n).traits == ["CUSTOM_A"]
b.set_node_maintenance(n, reason="r"); b.unset_node_maintenance(n)
assert b.validate_node(n, required=("power", "management"))["power"].result
a = b.create_allocation(name="a1", resource_class="sdk")
a = b.wait_for_allocation(a, timeout=240)
assert a.node_id == n.id
n = b.update_node(n, instance_info={{"image_source": "web"}})
n = b.set_node_provision_state(n, "active", config_drive={{"meta_data": {{"a": "b"}}}}, wait=True, timeout=240)
assert n.provision_state == "active", n
b.wait_for_node_reservation(n, timeout=240)
assert [d.name for d in b.drivers()] and [x for x in b.conductors()]
b.set_node_provision_state(n, "deleted", wait=True, timeout=240)
assert not list(b.allocations())
step = {{"interface": "deploy", "step": "hold", "args": {{}}, "priority": 70}}
t = b.create_deploy_template(name="CUSTOM_S", steps=[step])
b.delete_deploy_template(t)
b.delete_port(p)
b.delete_node(n)
print("well", [x.name for x in b.nodes(details=True) if x.name == "s1"])
"""
    words = [venv / "bin/python", "-W", "ignore", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "well []"


def test_metalsmith_deploys_lists_and_undeploys(ironic: Any, venv: Path, server: str) -> None:
    sizes = [f"--property={k}" for k in ("cpus=4", "memory_mb=8192", "local_gb=60")]
    ironic("node", "create", "--driver", "fake-hardware", "--name", "m1", "--resource-class", "smith", *sizes)
    ironic("node", "manage", "m1", "--wait", "240")
    ironic("node", "provide", "m1", "--wait", "240")
    auth = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": server, "OS_BAREMETAL_ENDPOINT_OVERRIDE": server}

    def smith(*words: str) -> str:
        command = [venv / "bin/metalsmith", *words]
        done = subprocess.run(command, env={**os.environ, **auth}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    image = ["--image", "http://127.0.0.1/x.raw", "--image-checksum", "0" * 32, "--root-size", "10"]
    smith("deploy", *image, "--resource-class", "smith", "--hostname", "h1")
    assert "ACTIVE" in smith("list")
    smith("undeploy", "h1", "--wait", "240")
    assert "h1" not in smith("list")
