"""Machines that never ask for a boot file by DHCP go the whole way: UEFI HTTP boot, and a virtual CD, by Redfish."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baremetal.images import builder, catalog
from baremetal.images.store import ImageStore
from baremetal.lab.spec import MachineSpec, RackSpec

if TYPE_CHECKING:
    from conftest import Walked

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.images, pytest.mark.timeout(2400)]
WAYS = {"web-0": "http", "cd-0": "media", "cd-1": "media"}
MACHINES = (
    MachineSpec("web-0", "uefi", "52:54:00:90:00:01", 4, 768, "10.91.0.11"),
    MachineSpec("cd-0", "bios", "52:54:00:90:00:02", 4, 768, "10.91.0.12"),
    MachineSpec("cd-1", "uefi", "52:54:00:90:00:03", 4, 768, "10.91.0.13"),
)


@pytest.fixture(scope="module")
def rack(make_site: Callable[..., Walked], golden: bytes, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    def images(store: ImageStore) -> None:
        definition = catalog.find("deploy-ramdisk")
        cache = Path(os.environ.get("BAREMETAL_CACHE_DIR", "/var/cache/baremetal"))
        built = builder.build(definition, builder.Options(cache=cache)).directory
        properties = dict(definition.properties)
        store.add_ramdisk(built / "kernel", built / "initrd", name="deploy-ramdisk", properties=properties)
        plain = tmp_path_factory.mktemp("images") / "plain.raw"
        plain.write_bytes(golden)
        store.add(plain, name="plain")

    return make_site(RackSpec(nodes=MACHINES), images, boot_tries=2)


@pytest.fixture(scope="module")
def nodes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As TripleO writes it, with the addresses of Redfish."""
    nodes = [
        {
            "name": spec.name,
            "pm_type": "redfish",
            "pm_system_id": "/redfish/v1/Systems/1",
            "pm_addr": f"https://{spec.bmc_address}",
            "pm_user": spec.bmc_user,
            "pm_password": spec.bmc_password,
            "mac": [spec.mac],
            "properties": {"boot_via": WAYS[spec.name]},
        }
        for spec in MACHINES
    ]
    path = tmp_path_factory.mktemp("fleet") / "nodes.json"
    path.write_text(json.dumps({"nodes": nodes}))
    return path


def test_each_is_inspected_cleaned_and_deployed_by_its_own_way(rack: Walked, nodes_file: Path) -> None:
    rack.ok("node", "import", str(nodes_file), "--wait", timeout_s=600)
    rack.ok("node", "inspect", *WAYS, "--wait", timeout_s=1200)
    rack.ok("node", "provide", *WAYS, "--wait", timeout_s=1200)
    rack.ok("node", "deploy", *WAYS, "--image", "plain", "--wait", "--yes", timeout_s=1200)
    for name in WAYS:
        assert rack.node(name)["state"] == "active"
        told = json.loads(rack.ok("events", "--node", name, "--json", "--limit", "5000"))["events"]
        loaders = {(e["stage"], e["data"]["via"]) for e in told if e["kind"] == "loader"}
        assert loaders == ({("snponly.efi", "http")} if name == "web-0" else set()), name


def test_the_cd_is_out_again(rack: Walked) -> None:
    for name in ("cd-0", "cd-1"):
        folder = str(rack.lab_dir / "nodes" / name)
        running = [words for words in _command_lines() if "qemu-system" in words and folder in words]
        assert len(running) == 1, name
        assert "cd0.iso" not in running[0]


def _command_lines() -> list[str]:
    found = []
    for proc in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(proc.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
