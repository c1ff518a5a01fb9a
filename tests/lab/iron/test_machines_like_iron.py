"""A rack of machines as servers are: AHCI, NVMe, e1000, e1000e, two disks, two NICs, BIOS and UEFI, the generic kernel.

They go the whole way by PXE and by our command line: inspection with rules and a SKU, cleaning with proof, RAID, a data
partition that survives a rebuild, service, adoption; and what cannot heal is told. The tests run in order.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from baremetal.agents import gpt
from baremetal.images import builder, catalog
from baremetal.images.definition import with_options
from baremetal.images.store import ImageStore
from baremetal.lab.spec import MachineSpec, RackSpec

if TYPE_CHECKING:
    from conftest import Walked

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.images, pytest.mark.timeout(2400)]
MIB = 1 << 20
OLD = MachineSpec(
    "iron-0", "bios", "52:54:00:90:00:01", 4, 768, "10.91.0.11", nic="e1000e", disk="ahci", disks=2, nics=2, kcs=True
)
NEW = MachineSpec("iron-1", "uefi", "52:54:00:90:00:02", 4, 1024, "10.91.0.12", nic="e1000", disk="nvme")
STEP = '#!/bin/sh\nread -r given\necho progress 1 2\necho "{\\"given\\": $given}"\n'
RULES = """
[[rule]]
name = "lab"
when = [{ field = "system_vendor.product_name", op = "eq", value = "VNode" }]
then = [
  { set = "resource_class", to = "iron" },
  { set = "labels.serial", to = "{system_vendor.serial_number}" },
  { add-trait = "CUSTOM_LAB" },
]
"""
SKUS = """
[[sku]]
name = "two-disks"
when = [{ field = "system_vendor.product_name", value = "VNode" }]
[sku.expect]
"disks.#" = DISKS
"memory.physical_mb" = ">= 700"
"""


def fill(folder: Path, golden: bytes) -> Callable[[ImageStore], None]:
    """The ramdisk with the generic kernel and one program more, and a small golden disk without an agent."""

    def images(store: ImageStore) -> None:
        definition = with_options(catalog.find("deploy-ramdisk"), {"kernel": "amd64"})
        cache = Path(os.environ.get("BAREMETAL_CACHE_DIR", "/var/cache/baremetal"))
        built = builder.build(definition, builder.Options(cache=cache)).directory
        (folder / "initrd").write_bytes(archive(folder / "tree") + (built / "initrd").read_bytes())
        properties = dict(definition.properties)
        store.add_ramdisk(built / "kernel", folder / "initrd", name="deploy-ramdisk", properties=properties)
        (folder / "plain.raw").write_bytes(golden)
        store.add(folder / "plain.raw", name="plain")

    return images


def archive(tree: Path) -> bytes:
    """What an element with ramdisk-steps.d/nic-firmware would have brought."""
    step = tree / "usr/lib/baremetal/steps/nic-firmware"
    step.parent.mkdir(parents=True)
    step.write_text(STEP)
    step.chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    command = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"]
    return subprocess.run(command, cwd=tree, input=names.encode(), capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def rack(make_site: Callable[..., Walked], golden: bytes, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    spec = RackSpec(nodes=(OLD, NEW))
    site: Walked = make_site(spec, fill(tmp_path_factory.mktemp("images"), golden), boot_tries=1, boot_s=100.0)
    site.ok("node", "import", str(site.lab_dir / "instackenv.json"), "--wait")
    return site


def inventory(rack: Walked, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rack.ok("node", "inventory", name, "--json"))["inventory"]
    return found


def disk(rack: Walked, name: str, number: int, folder: Path) -> Path:
    """A machine's disk as a raw file; the machine must be off or have flushed."""
    path = folder / f"{name}-{number}.raw"
    source = rack.lab_dir / "nodes" / name / f"disk{number}.qcow2"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(source), str(path)], check=True)
    return path


def off(rack: Walked, name: str) -> None:
    rack.ok("node", "power", name, "off", "--yes")
    deadline = time.monotonic() + 120
    while rack.node(name)["power"] != "off" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert rack.node(name)["power"] == "off"


def names(path: Path) -> list[str]:
    with path.open("rb") as f:
        return [p.name for p in gpt.read(f).partitions]


def test_inspection_by_pxe_finds_what_the_machines_are(rack: Walked, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    rack.ok("inspection", "rule", "add", str(tmp_path / "rules.toml"))
    rack.ok("node", "inspect", "iron-0", "iron-1", "--wait", timeout_s=600)
    old, new = inventory(rack, "iron-0"), inventory(rack, "iron-1")
    assert [nic["driver"] for nic in old["interfaces"]] == ["e1000e", "e1000e"]
    assert [nic["has_carrier"] for nic in old["interfaces"]] == [True, True]
    assert [d["name"] for d in old["disks"]] == ["/dev/sda", "/dev/sdb"]
    assert (old["bmc_address"], old["boot"]["current_boot_mode"]) == ("10.91.0.11", "bios")
    assert 700 <= old["memory"]["physical_mb"] <= 800
    assert (new["interfaces"][0]["driver"], new["disks"][0]["name"]) == ("e1000", "/dev/nvme0n1")
    assert new["boot"]["current_boot_mode"] == "uefi"
    node = rack.node("iron-1")
    assert (node["resource_class"], node["labels"]["serial"]) == ("iron", "SN-IRON-1")
    assert "CUSTOM_LAB" in node["traits"]


def test_a_sku_names_the_machine_that_differs(rack: Walked, tmp_path: Path) -> None:
    (tmp_path / "skus.toml").write_text(SKUS.replace("DISKS", "2"))
    rack.ok("inspection", "sku", "add", str(tmp_path / "skus.toml"))
    told = rack.ok("inspection", "reprocess", "iron-0")
    assert "two-disks" in told + rack.ok("node", "show", "iron-0")
    done = rack.cli("inspection", "reprocess", "iron-1")
    assert "disks.#" in done.stdout + done.stderr
    rack.ok("inspection", "sku", "delete", "two-disks")
    rack.ok("inspection", "reprocess", "iron-1")
    assert rack.node("iron-1")["fault"] is None


def test_both_are_cleaned_and_the_proof_is_shown(rack: Walked) -> None:
    rack.ok("node", "provide", "iron-0", "iron-1", "--wait", timeout_s=600)
    found = json.loads(rack.ok("node", "erasures", "--json"))["erasures"]
    assert sorted((p["node"], p["name"]) for p in found) == [
        ("iron-0", "/dev/sda"),
        ("iron-0", "/dev/sdb"),
        ("iron-1", "/dev/nvme0n1"),
    ]
    assert all(p["method"] and p["bytes_verified"] >= 8 * MIB and p["serial"] for p in found)
    told = rack.ok("node", "erasures", "iron-1")
    assert next(p["serial"] for p in found if p["node"] == "iron-1") in told
    assert json.loads(rack.ok("node", "erasures", "--disk", found[0]["serial"], "--json"))["erasures"] == [found[0]]


def test_an_nvme_drive_is_erased_by_itself(rack: Walked) -> None:
    rack.ok("node", "manage", "iron-1", "--wait")
    rack.ok("node", "provide", "iron-1", "--method", "best", "--wait", timeout_s=600)
    last = json.loads(rack.ok("node", "erasures", "iron-1", "--json"))["erasures"][-1]
    assert last["method"].startswith("nvme-format"), last


def test_a_mirror_is_wished_made_deployed_and_taken_apart(rack: Walked, tmp_path: Path) -> None:
    rack.ok("node", "manage", "iron-0", "--wait")
    rack.ok("node", "raid", "iron-0", "--level", "1")
    rack.ok("node", "provide", "iron-0", "--wait", timeout_s=600)
    rack.ok("node", "deploy", "iron-0", "--image", "plain", "--wait", timeout_s=600)
    assert rack.node("iron-0")["state"] == "active"
    off(rack, "iron-0")
    halves = [disk(rack, "iron-0", n, tmp_path) for n in (0, 1)]
    assert [names(half) for half in halves] == [["root", "config-2"]] * 2
    with halves[0].open("rb") as one, halves[1].open("rb") as other:
        assert one.read(64 * MIB) == other.read(64 * MIB)
    rack.ok("node", "raid", "iron-0", "--none")
    rack.ok("node", "undeploy", "iron-0", "--wait", timeout_s=600)
    assert "no RAID" in rack.ok("node", "raid", "iron-0")


def test_raid_by_clean_steps_as_ironic_names_them(rack: Walked, tmp_path: Path) -> None:
    rack.ok("node", "manage", "iron-0", "--wait")
    steps = tmp_path / "steps.yaml"
    make = {"logical_disks": [{"raid_level": "0", "size_gb": "MAX"}]}
    steps.write_text(json.dumps([{"interface": "raid", "step": "create_configuration", "args": make}]))
    rack.ok("node", "clean", "iron-0", "--steps", str(steps), "--wait", timeout_s=600)
    assert json.loads(rack.ok("node", "raid", "iron-0", "--json"))["raid"]["logical_disks"][0]["raid_level"] == "0"
    steps.write_text(json.dumps([{"interface": "raid", "step": "delete_configuration"}]))
    rack.ok("node", "clean", "iron-0", "--steps", str(steps), "--wait", timeout_s=600)
    assert "no RAID" in rack.ok("node", "raid", "iron-0")


def test_a_data_partition_survives_a_rebuild(rack: Walked, tmp_path: Path) -> None:
    rack.ok("node", "deploy", "iron-1", "--image", "plain", "--data-partition", "data=1", "--wait", timeout_s=600)
    off(rack, "iron-1")
    before = disk(rack, "iron-1", 0, tmp_path)
    with before.open("rb") as f:
        kept = next(p for p in gpt.read(f).partitions if p.name == "data")
    mark = b"a word of the tenant's"
    live = rack.lab_dir / "nodes" / "iron-1" / "disk0.qcow2"
    (tmp_path / "mark").write_bytes(mark.ljust(512, b"\0"))
    write = f"write -s {tmp_path / 'mark'} {kept.first * 512} 512"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, str(live)], check=True, capture_output=True)
    rack.ok("node", "rebuild", "iron-1", "--image", "plain", "--preserve", "data", "--wait", timeout_s=600)
    off(rack, "iron-1")
    after = disk(rack, "iron-1", 0, tmp_path)
    assert "data" in names(after)
    with after.open("rb") as f:
        f.seek(kept.first * 512)
        assert f.read(len(mark)) == mark


def test_service_runs_a_program_and_reads_the_hardware_again(rack: Walked) -> None:
    script = 'nic-firmware={"version": "2.1"}'
    rack.ok("node", "service", "iron-1", "--script", script, "--inventory", "--wait", timeout_s=600)
    assert (rack.node("iron-1")["state"], rack.node("iron-1")["fault"]) == ("active", None)
    told = json.loads(rack.ok("node", "events", "iron-1", "--json", "--limit", "1000"))["events"]
    ran = next(e for e in told if e["stage"] == "script nic-firmware")
    assert ran["data"]["result"] == {"given": {"version": "2.1"}}
    done = rack.cli("node", "service", "iron-1", "--script", "no-such", "--wait", timeout_s=600)
    assert done.returncode == 1
    assert "nic-firmware" in done.stderr, "it says which there are"
    rack.ok("node", "abort", "iron-1", "--wait", timeout_s=600)
    assert rack.node("iron-1")["state"] == "active"


def test_a_running_machine_is_adopted_as_it_is(rack: Walked) -> None:
    rack.ok("node", "undeploy", "iron-1", "--wait", timeout_s=600)
    rack.ok("node", "manage", "iron-1", "--wait")
    rack.ok("node", "adopt", "iron-1", "--image", "plain", "--wait", timeout_s=300)
    node = rack.node("iron-1")
    assert (node["state"], node["image"]) == ("active", "plain")


FAULTS = [  # what stands in the rack, the fault's code, what its words say
    ("disk-none", "no-disk", "no disk"),
    ("box-other", "boot-hello-refused", "another machine"),
    ("box-starved", "boot-no-hello", "memory"),
]


@pytest.mark.parametrize(("fault", "code", "words"), FAULTS)
def test_what_cannot_work_is_said_truly(rack: Walked, fault: str, code: str, words: str) -> None:
    off(rack, "iron-0")
    if rack.node("iron-0")["state"] == "manageable":
        rack.ok("node", "provide", "iron-0", "--wait", timeout_s=600)
        off(rack, "iron-0")
    assert rack.lab("fault", "iron-0", fault).returncode == 0
    try:
        done = rack.cli("node", "deploy", "iron-0", "--image", "plain", "--wait", timeout_s=1800)  # three tries
        assert done.returncode == 1, done.stdout
        found = rack.node("iron-0")["fault"]
        assert found["code"] == code, found
        assert words in json.dumps(found), found
        assert found["fix"]
    finally:
        assert rack.lab("fault", "iron-0", "heal").returncode == 0
    off(rack, "iron-0")
    rack.ok("node", "undeploy", "iron-0", "--wait", timeout_s=600)
    assert rack.node("iron-0")["state"] == "available"
