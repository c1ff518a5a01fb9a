"""An operator's day with the ramdisk's verbs, by our command line on a live control plane; machines are simulated.

In order, on one node: what each command says is what the next one needs.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal.api.app import create_app
from baremetal.serve.apithread import ApiThread, Front
from baremetal.serve.listen import bind
from baremetal.store import Store
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import FakeDrivers, SimulatedImages, SimulatedRack
from baremetal.workflows.site import Keys, Ramdisk, Site

pytestmark = pytest.mark.integration
RULES = """
[[rule]]
name = "simulated"
when = [{ field = "cpu.model_name", value = "Simulated" }]
then = [{ set = "resource_class", to = "sim" }, { add-trait = "CUSTOM_X" }]
"""
SKUS = """
[[sku]]
name = "big"
when = [{ field = "cpu.model_name", value = "Simulated" }]
[sku.expect]
"cpu.count" = 64
"""


class Desk:
    """The operator's shell, and the machines' side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.ready, self.stop = threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        store = Store.open(f"sqlite:///{self.folder}/walk.db")
        con = Conductor(
            store=store,
            keys=Keys(os.urandom(32), os.urandom(32), pem),
            bmc=FakeDrivers(),
            site=Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")}),
            images=SimulatedImages(anything=True),
            policy=Policy(record_consoles=False, bmc_pause_s=0.01, power_poll_s=0.01, soft_off_poll_s=0.1),
        )
        self.rack = SimulatedRack(con)
        await con.start()
        self.rack.connect()
        server = ApiThread()
        door = bind("127.0.0.1", 0)
        self.port = door.getsockname()[1]
        await server.listen(Front(create_app(con), self.loop), door)
        self.ready.set()
        await self.stop.wait()
        await server.close()
        await self.rack.close()
        await con.stop()
        store.close()

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "BAREMETAL_SERVER": f"http://127.0.0.1:{self.port}", "NO_COLOR": "1"}
        argv = [sys.executable, "-m", "baremetal", *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=180, check=False)

    def ok(self, *words: str) -> str:
        done = self.cli(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def node(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("node", "show", "r1-u07", "--json").stdout)
        return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("walk"))
    desk.thread.start()
    assert desk.ready.wait(120)
    box = asyncio.run_coroutine_threadsafe(_added(desk), desk.loop).result(60)
    desk.ok("node", "enroll", "r1-u07", "--bmc", f"fake://{box.bmc.name}", "--mac", box.mac, "--wait")
    yield desk
    desk.loop.call_soon_threadsafe(desk.stop.set)
    desk.thread.join(60)


async def _added(desk: Desk) -> Any:
    return desk.rack.add("r1-u07")


def test_rules_and_a_sku_judge_what_inspection_finds(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "skus.toml").write_text(SKUS)
    desk.ok("inspection", "rule", "add", str(tmp_path / "rules.toml"))
    assert "resource_class = sim" in desk.ok("inspection", "rule", "list")
    desk.ok("inspection", "sku", "add", str(tmp_path / "skus.toml"))
    assert "cpu.count=64" in desk.ok("inspection", "sku", "list")
    done = desk.cli("node", "inspect", "r1-u07", "--wait")
    assert done.returncode == 1
    assert "cpu.count" in done.stderr, "the difference is named"
    assert "then: baremetal node inspect r1-u07" in desk.ok("node", "explain", "r1-u07"), "and how to go on"
    desk.ok("inspection", "sku", "delete", "big")
    desk.ok("node", "inspect", "r1-u07", "--wait")
    desk.ok("inspection", "reprocess", "r1-u07")
    node = desk.node()
    assert (node["resource_class"], node["traits"], node["fault"]) == ("sim", ["CUSTOM_X"], None)


def test_erasing_is_proved_to_whoever_asks(desk: Desk) -> None:
    assert "no disk was erased" in desk.ok("node", "erasures", "r1-u07")
    desk.ok("node", "provide", "r1-u07", "--wait")
    assert "metadata" in desk.ok("node", "erasures", "r1-u07")
    proof = json.loads(desk.cli("node", "erasures", "--disk", "S-r1-u07", "--json").stdout)["erasures"][0]
    assert (proof["node"], proof["method"], proof["bytes_verified"] > 0) == ("r1-u07", "metadata", True)


def test_raid_is_wished_for_or_a_step_of_cleaning(desk: Desk, tmp_path: Path) -> None:
    desk.ok("node", "manage", "r1-u07", "--wait")
    desk.ok("node", "raid", "r1-u07", "--level", "1")
    desk.ok("node", "provide", "r1-u07", "--wait")
    assert "RAID 1" in desk.ok("node", "raid", "r1-u07")
    desk.ok("node", "manage", "r1-u07", "--wait")
    (tmp_path / "steps.yaml").write_text("- {interface: raid, step: delete_configuration}\n")
    desk.ok("node", "clean", "r1-u07", "--steps", str(tmp_path / "steps.yaml"), "--wait")
    assert "no RAID is wanted" in desk.ok("node", "raid", "r1-u07")
    desk.ok("node", "provide", "r1-u07", "--wait")


def test_a_data_partition_is_made_and_kept(desk: Desk) -> None:
    desk.ok("node", "deploy", "r1-u07", "--image", "web", "--data-partition", "data=20", "--wait")
    desk.ok("node", "rebuild", "r1-u07", "--image", "web-2", "--preserve", "data", "--wait")
    assert desk.node()["state"] == "active"


def test_service_runs_programs_and_tells_which_failed(desk: Desk) -> None:
    desk.ok("node", "service", "r1-u07", "--script", 'nic={"version": "2.1"}', "--wait")
    done = desk.cli("node", "service", "r1-u07", "--script", "broken", "--wait")
    assert (done.returncode, "no such card" in done.stderr) == (1, True)
    assert "node abort" in desk.ok("node", "explain", "r1-u07")
    desk.ok("node", "abort", "r1-u07", "--wait")
    assert desk.node()["state"] == "active"


def test_rescue_shows_its_password_once(desk: Desk) -> None:
    said = desk.ok("node", "rescue", "r1-u07", "--wait")
    assert "one-time password of root: " in said
    word = said.partition("one-time password of root: ")[2].split()[0]
    desk.ok("node", "unrescue", "r1-u07", "--wait")
    for command in (("events", "--limit", "5000"), ("node", "history", "r1-u07"), ("node", "show", "r1-u07", "--json")):
        assert word not in desk.ok(*command)


def test_a_running_machine_is_adopted(desk: Desk) -> None:
    desk.ok("node", "undeploy", "r1-u07", "--wait")
    desk.ok("node", "manage", "r1-u07", "--wait")
    desk.ok("node", "adopt", "r1-u07", "--image", "web", "--wait")
    node = desk.node()
    assert (node["state"], node["image"]) == ("active", "web")
