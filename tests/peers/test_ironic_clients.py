"""Unmodified python-ironicclient, openstacksdk and metalsmith against a running server on simulated machines.

They live in a virtual environment of their own (python-ironicclient installs a
`baremetal` command too): BAREMETAL_PEERS_VENV names one that has them, else one
is made, which needs a package index.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.peers


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("BAREMETAL_PEERS_VENV")
    if given:
        return Path(given)
    made = tmp_path_factory.mktemp("peers")
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    subprocess.run([made / "bin/pip", "install", "-q", "python-ironicclient", "openstacksdk", "metalsmith"], check=True)
    return made


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([ROOT / "hack/api-fixture", str(port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield url
    child.terminate()
    child.wait()


@pytest.fixture
def ironic(venv: Path, server: str) -> Callable[..., str]:
    def run(*words: str, ok: bool = True) -> str:
        command = [venv / "bin/baremetal", "--os-auth-type", "none", "--os-endpoint", server, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout if ok else done.stderr

    return run


def test_the_command_line_takes_a_node_through_its_life(ironic: Callable[..., str]) -> None:
    uuid = ironic("node", "create", "--driver", "fake-hardware", "--name", "w1", "-f", "value", "-c", "uuid").strip()
    ironic("port", "create", "--node", uuid, "52:54:00:aa:bb:01")
    for words in (("manage",), ("inspect",), ("provide",)):
        assert "unexpected" not in ironic("node", *words, "w1", "--wait", "60")
    ironic("node", "set", "w1", "--instance-info", "image_source=web")
    ironic("node", "deploy", "w1", "--wait", "60")
    shown: dict[str, Any] = json.loads(ironic("node", "show", "w1", "-f", "json"))
    assert (shown["provision_state"], shown["power_state"], shown["last_error"]) == ("active", "power on", None)
    assert "HTTP 400" in ironic("node", "provide", "w1", ok=False)
    ironic("node", "undeploy", "w1", "--wait", "60")
    ironic("node", "delete", "w1")
    assert uuid not in ironic("node", "list")


def test_the_sdk_and_its_wait_helpers(venv: Path, server: str) -> None:
    program = f"""
import openstack
c = openstack.connect(auth_type="none", endpoint={server!r}, baremetal_endpoint_override={server!r})
b = c.baremetal
n = b.create_node(driver="fake-hardware", name="s1", resource_class="sdk", provision_state="enroll")
b.set_node_provision_state(n, "manage", wait=True, timeout=60)
b.set_node_provision_state(n, "provide", wait=True, timeout=60)
a = b.create_allocation(name="a1", resource_class="sdk")
a = b.wait_for_allocation(a, timeout=30)
assert a.node_id == n.id
n = b.update_node(n, instance_info={{"image_source": "web"}})
n = b.set_node_provision_state(n, "active", config_drive={{"meta_data": {{"a": "b"}}}}, wait=True, timeout=60)
assert n.provision_state == "active", n
b.set_node_provision_state(n, "deleted", wait=True, timeout=60)
assert not list(b.allocations())
b.delete_node(n)
print("well", [x.name for x in b.nodes()])
"""
    done = subprocess.run([venv / "bin/python", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("well")


def test_metalsmith_deploys_lists_and_undeploys(ironic: Callable[..., str], venv: Path, server: str) -> None:
    sizes = [f"--property={k}" for k in ("cpus=4", "memory_mb=8192", "local_gb=60")]
    ironic("node", "create", "--driver", "fake-hardware", "--name", "m1", "--resource-class", "smith", *sizes)
    ironic("node", "manage", "m1", "--wait", "60")
    ironic("node", "provide", "m1", "--wait", "60")
    auth = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": server, "OS_BAREMETAL_ENDPOINT_OVERRIDE": server}

    def smith(*words: str) -> str:
        command = [venv / "bin/metalsmith", *words]
        done = subprocess.run(command, env={**os.environ, **auth}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    image = ["--image", "http://127.0.0.1/x.raw", "--image-checksum", "0" * 32, "--root-size", "10"]
    smith("deploy", *image, "--resource-class", "smith", "--hostname", "h1")
    assert "ACTIVE" in smith("list")
    smith("undeploy", "h1", "--wait", "60")
    assert "h1" not in smith("list")
