"""What the signed GRUB is given by TFTP, and what it is not."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from baremetal.bootplane.state import State
from baremetal.model.boot import BootRecord, Purpose
from baremetal.protocol import nonce
from baremetal.protocol.plane import Snapshot
from baremetal.serve.grubtree import GrubTree
from baremetal.serve.loaders import LoaderTree, read_loaders, read_templates

MAC, KEY = "52:54:00:00:00:01", "11" * 32
NODE = BootRecord(
    "id1", "r1", (MAC,), None, Purpose.RAMDISK, "inspecting", boot_id="b1", kernel="k", initrd="i", cmdline="quiet"
)
SCRIPT = f"boot/{MAC}.grub"


class Notes(list[tuple[str, str | None, dict[str, Any]]]):
    def note(self, kind: str, node: str | None, body: dict[str, Any]) -> None:
        self.append((kind, node, body))


def tree(record: BootRecord = NODE, key: str | None = KEY) -> tuple[GrubTree, Notes]:
    state, notes = State(), Notes()
    boot = {**asdict(record), "purpose": str(record.purpose)}
    view = {"node": "id1", "name": record.name, "boot": boot, "nonce_key": key}
    state.load(1, Snapshot(nodes=[view], artifacts={"k": {"path": "/srv/k", "size": 1, "sha256": ""}}))
    return GrubTree(LoaderTree(read_loaders()), state, notes, read_templates(), "https://10.0.0.1:8443"), notes


def text(of: GrubTree, name: str = SCRIPT) -> str:
    found = of.get(name)
    assert isinstance(found, bytes)
    return found.decode()


def test_its_configuration_leads_to_the_nodes_script() -> None:
    assert "configfile /boot/$net_default_mac.grub" in text(tree()[0], "grub/grub.cfg")


def test_the_script_starts_kernel_and_ramdisk_with_a_nonce() -> None:
    made, notes = tree()
    line = next(x for x in text(made).splitlines() if x.startswith("linux "))
    assert line.startswith("linux /artifacts/k quiet baremetal.url=https://10.0.0.1:8443 baremetal.nonce=")
    assert line.endswith(" BOOTIF=01-52-54-00-00-00-01")
    word = line.split("baremetal.nonce=")[1].split()[0]
    assert nonce.verify(word, KEY, "id1", "b1")
    assert notes == [("script-sent", "id1", {"nonce_id": word.partition(".")[0], "boot_id": "b1"})]


LEAVES = [
    (replace(NODE, purpose=Purpose.DISK, because="active"), KEY, "r1: active"),
    (replace(NODE, kernel=None), KEY, "no ramdisk is there yet"),
    (NODE, None, "this boot has begun already"),
]


@pytest.mark.parametrize(("record", "key", "says"), LEAVES)
def test_when_there_is_nothing_to_start_it_says_why_and_leaves(record: BootRecord, key: str | None, says: str) -> None:
    told = text(tree(record, key)[0])
    assert says in told
    assert told.endswith("exit\n")
    assert "linux" not in told


def test_a_second_nonce_is_refused_with_an_alarm() -> None:
    made, notes = tree(NODE, None)
    text(made)
    assert notes[0][0] == "refused"


def test_an_unknown_machine_leaves() -> None:
    assert "no node has this MAC" in text(tree()[0], "boot/52:54:00:00:00:99.grub")


def test_files() -> None:
    made = tree()[0]
    assert made.get("artifacts/k") == Path("/srv/k")
    assert made.get("undionly.kpxe") == Path("/usr/lib/ipxe/undionly.kpxe")
    for name in ("artifacts/x", "artifacts/../k", "boot/x.grub", f"boot/{MAC}.ipxe", "grub/x"):
        assert made.get(name) is None
