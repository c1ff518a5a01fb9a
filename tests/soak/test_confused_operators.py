"""Operators who ask everything of every node in any order, while machines fail and the server is killed.

BAREMETAL_SOAK_MINUTES (20) and BAREMETAL_SOAK_SEED. Verbs in wrong orders and twice, aborts and holds at any point,
maintenance in the middle, names, NICs and BMC addresses changed in flight, records deleted and enrolled again,
allocations that race. No answer may be blank or an accident of ours, every explanation says what is and what can be
done, and afterwards every node is brought to *active* by the advice that its own explanation gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from baremetal.workflows.simulated import Timing

MINUTES = float(os.environ.get("BAREMETAL_SOAK_MINUTES", "20"))
SEED = int(os.environ.get("BAREMETAL_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
COUNT = 24
OPERATORS = 6
TO_ACTIVE_S = 240.0
PATIENCE = {
    "hello_s": 4.0,
    "boot_s": 3.0,
    "post_s": 3.0,
    "boot_tries": 2,
    "bmc_reset": False,
    "first_boot_s": 6.0,
    "progress_lost_s": 4.0,
    "bmc_patience_s": 5.0,
    "verify_patience_s": 4.0,
    "power_confirm_s": 2.0,
    "soft_off_s": 3.0,
    "bmc_pause_s": 0.3,
    "power_sync_s": 5.0,
    "deploy_limit": 8,
    "clean_limit": 8,
    "inspect_limit": 8,
}
BOX_FAULTS = ("no-dhcp", "no-loader", "no-kernel", "no-hello", "agent-dies", "write-fails", "config-fails")
BMC_FAULTS = ("silent", "busy", "ignores-power", "ignores-soft", "forgets-boot", "hung")
VERBS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("manage", {}),
    ("provide", {}),
    ("provide", {"method": "metadata"}),
    ("inspect", {}),
    ("clean", {}),
    ("clean", {"steps": [{"step": "erase_devices_metadata"}]}),
    ("clean", {"steps": [{"step": "no-such-step"}]}),
    ("deploy", {"image": "web"}),
    ("deploy", {"image": "web", "metadata": {"motd": "Grüße 🦆"}}),
    ("deploy", {"image": "none"}),
    ("deploy", {}),
    ("undeploy", {}),
    ("rebuild", {}),
    ("rebuild", {"image": "web"}),
    ("rescue", {"password": "one time word"}),
    ("rescue", {}),
    ("unrescue", {}),
    ("adopt", {}),
    ("adopt", {"image": "web"}),
    ("service", {}),
    ("abort", {}),
    ("abort", {}),
    ("hold", {}),
    ("unhold", {}),
    ("fly", {}),
    ("provide", {"wings": 2}),
)
# What ends each rest on the way to active when the explanation names nothing better.
ONWARD = {"enroll": "manage", "manageable": "provide", "available": "deploy", "rescue": "unrescue"}


class Operators:
    """What they ask, and what was wrong with the answers."""

    def __init__(self, rig: Any, rng: random.Random) -> None:
        self.rig, self.rng = rig, rng
        self.boxes = list(rig.rack.boxes)
        self.names = {box: box for box in self.boxes}
        self.asked: dict[int, int] = {}
        self.bad: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; a server that is away just now is asked again."""
        while True:
            try:
                answer = await self.rig._http.request(method, path, json=body)
                break
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
        self.asked[answer.status_code] = self.asked.get(answer.status_code, 0) + 1
        doc = answer.json() if answer.content else {}
        if answer.status_code >= 400:
            said = doc.get("error", doc) if isinstance(doc, dict) else {}
            whole = bool(said.get("brief")) and bool(said.get("fix") or said.get("detail"))
            if answer.status_code == 500 or not whole:
                self.bad.append(f"{method} {path} {json.dumps(body)[:200]} -> {answer.status_code} {answer.text[:600]}")
        return answer.status_code, doc

    async def one(self) -> None:
        box = self.rng.choice(self.boxes)
        name = self.names[box]
        await self.rng.choices(
            (self.verb, self.power, self.care, self.change, self.forget, self.hold_one, self.look, self.words),
            (50, 6, 8, 10, 3, 5, 15, 4),
        )[0](box, name)

    async def verb(self, box: str, name: str) -> None:
        verb, args = self.rng.choice(VERBS)
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            await self.ask("PUT", f"/api/nodes/{name}/verbs/{verb}", args)

    async def power(self, box: str, name: str) -> None:
        target = self.rng.choice(("on", "off", "soft-off", "reboot", "sideways"))
        await self.ask("PUT", f"/api/nodes/{name}/power", {"target": target})

    async def care(self, box: str, name: str) -> None:
        key, value = self.rng.choice(
            (
                ("maintenance", "disk swap"),
                ("maintenance", None),
                ("maintenance", None),
                ("protected", True),
                ("protected", False),
                ("protected", False),
                ("retired", True),
                ("retired", False),
                ("retired", False),
            )
        )
        await self.ask("PATCH", f"/api/nodes/{name}", {key: value})

    async def change(self, box: str, name: str) -> None:
        other = self.rng.choice(self.boxes)
        mine = self.rig.rack.body(box)
        body = self.rng.choice(
            (
                {"name": f"{box}-new"},
                {"name": box},
                {"name": self.names[other]},
                {"macs": [f"52:54:ff:00:00:{self.rng.randrange(256):02x}"]},
                {"macs": mine["macs"]},
                {"macs": self.rig.rack.body(other)["macs"]},
                {"bmc_url": f"fake://elsewhere-{box}"},
                {"bmc_url": mine["bmc_url"]},
                {"bmc_url": ""},
                {"bmc_url": "gopher://x"},
                {"traits": ["CUSTOM_GPU"]},
                {"traits": ["CUSTOM_" + "X" * 300]},
                {"labels": {"role": "web"}},
                {"resource_class": "gpu"},
                {"resource_class": "baremetal"},
                {"root_device": {"size": ">= 1"}},
                {"root_device": {}},
                {"properties": {"a": "b" * 1000}},
                {"firmware": "uefi"},
                {"arch": "x86_64"},
                {"arch": "z80"},
            )
        )
        status, doc = await self.ask("PATCH", f"/api/nodes/{name}", body)
        if status == 200:
            self.names[box] = doc["name"]

    async def forget(self, box: str, name: str) -> None:
        force = self.rng.random() < 0.5
        status, _ = await self.ask("DELETE", f"/api/nodes/{name}{'?force=1' if force else ''}")
        if status == 204:
            await self.enroll(box)

    async def enroll(self, box: str) -> None:
        """Under the machine's own name; another may have its NIC or its name just now."""
        body = self.rig.rack.body(box)
        status, _ = await self.ask("POST", "/api/nodes", body)
        if status != 201:
            status, _ = await self.ask("POST", "/api/nodes", {**body, "macs": []})
        self.names[box] = box

    async def hold_one(self, box: str, name: str) -> None:
        what = f"job-{self.rng.randrange(6)}"
        if self.rng.random() < 0.5:
            await self.ask("DELETE", f"/api/allocations/{what}")
        else:
            body = {"name": what, "resource_class": self.rng.choice(("baremetal", "gpu")), "traits": []}
            await self.ask("POST", "/api/allocations", body)

    async def look(self, box: str, name: str) -> None:
        page = self.rng.choice(("explain", "timeline", "history", "events", "validate", "metadata", "inventory"))
        status, doc = await self.ask("GET", f"/api/nodes/{name}/{page}")
        if page == "explain" and status == 200:
            self.judge(doc)

    async def words(self, box: str, name: str) -> None:
        values = self.rng.choice(({"motd": "x"}, {"motd": None}, {"nested": {"a": [1, {"b": "ü"}]}}))
        await self.ask("PUT", f"/api/nodes/{name}/metadata", {"values": values})

    def judge(self, doc: dict[str, Any]) -> None:
        """Every explanation has words in it, and a way to go."""
        if not all(doc.get(key) for key in ("where", "why", "next")):
            self.bad.append(f"blank: {doc}")
        if "failed" in doc["where"] and not (doc["fault"] and doc["fault"]["brief"] and doc["can"]):
            self.bad.append(f"failed without fault or way on: {doc}")

    def mischief(self) -> None:
        for box in self.rig.rack.boxes.values():
            if self.rng.random() < 0.1:
                box.faults = {self.rng.choice(BOX_FAULTS)} if self.rng.random() < 0.3 else set()
                box.bmc.faults = {self.rng.choice(BMC_FAULTS)} if self.rng.random() < 0.25 else set()

    async def rage(self, until: float) -> None:
        while time.monotonic() < until:
            await self.one()
            await asyncio.sleep(self.rng.uniform(0, 0.15))

    # -- afterwards -----------------------------------------------------------------

    async def mend(self) -> None:
        """All machines well again, what was changed for fun changed back."""
        self.rig.loss.share = 0.0
        for box in self.rig.rack.boxes.values():
            box.faults, box.bmc.faults = set(), set()
        for row in (await self.ask("GET", "/api/allocations"))[1]["allocations"]:
            await self.ask("DELETE", f"/api/allocations/{row['name']}")
        listed = (await self.ask("GET", "/api/nodes?limit=1000"))[1]["nodes"]
        have = {node["name"] for node in listed}
        for box in self.boxes:
            name = self.names[box] if self.names[box] in have else box
            if name not in have:
                await self.enroll(box)
            self.names[box] = name
        for box in self.boxes:  # NICs last taken by others come back when all have let go
            await self.ask("PATCH", f"/api/nodes/{self.names[box]}", {"macs": []})
        for box in self.boxes:
            mine = self.rig.rack.body(box)
            body = {"macs": mine["macs"], "bmc_url": mine["bmc_url"], "password": "pw", "maintenance": None}
            body |= {"protected": False, "retired": False, "root_device": {}, "arch": "x86_64"}
            body |= {"resource_class": "baremetal"}
            status, doc = await self.ask("PATCH", f"/api/nodes/{self.names[box]}", body)
            if status != 200:
                self.bad.append(f"cannot be mended: {doc}")

    async def to_active(self) -> list[str]:
        """Every node by its own advice; what never arrived."""
        until = time.monotonic() + TO_ACTIVE_S
        while True:
            listed = (await self.ask("GET", "/api/nodes?limit=1000"))[1]["nodes"]
            late = [n for n in listed if n["ironic_state"] != "active" or n["wanted"] or n["power_wanted"]]
            if not late:
                return []
            for node in late:
                await self.advise(node)
            if time.monotonic() > until:
                return [json.dumps((await self.ask("GET", f"/api/nodes/{n['name']}/explain"))[1]) for n in late]
            await asyncio.sleep(1)

    async def advise(self, node: dict[str, Any]) -> None:
        name, state = node["name"], node["ironic_state"]
        if node["power_wanted"]:
            return
        doc = (await self.ask("GET", f"/api/nodes/{name}/explain"))[1]
        self.judge(doc)
        if node["held"]:
            await self.ask("PUT", f"/api/nodes/{name}/verbs/unhold", {})
        elif not node["wanted"]:
            said = [line.split()[2] for line in doc["can"] if line.startswith("baremetal node ")]
            verb = ONWARD.get(state) or next((v for v in said if v in dict(VERBS)), "")
            if not verb:
                self.bad.append(f"no way on from {state}: {doc}")
                return
            args = {"image": "web"} if verb == "deploy" else {"password": "x y z w"} if verb == "rescue" else {}
            await self.ask("PUT", f"/api/nodes/{name}/verbs/{verb}", args)


async def live(kit: ModuleType, directory: Path, minutes: float, seed: int, *, kills: bool = True) -> Operators:
    """The whole story; the operators with what they saw."""
    timing = Timing(post_s=0.2, loader_s=0.1, kernel_s=0.1, inspect_s=0.2, clean_s=0.3, write_s=0.5, jitter=1.0)
    rng = random.Random(seed)
    async with kit.Rig(directory, timing, PATIENCE, kit.Loss(0.02)) as rig:
        await rig.enroll(COUNT)
        crowd = Operators(rig, rng)
        until = time.monotonic() + minutes * 60
        asking = [asyncio.create_task(crowd.rage(until)) for _ in range(OPERATORS)]
        kill_at = time.monotonic() + 15
        while time.monotonic() < until:
            crowd.mischief()
            await asyncio.sleep(1)
            if kills and time.monotonic() > kill_at:
                await rig.kill()
                kill_at = time.monotonic() + rng.uniform(10, 40)
        await asyncio.gather(*asking)
        await crowd.mend()
        crowd.bad += [f"never came to active: {line}" for line in await crowd.to_active()]
        checked = (await crowd.ask("GET", "/api/db/check"))[1]
        if not checked.get("ok"):
            crowd.bad.append(f"database: {checked}")
        if rig.unsafe:
            crowd.bad.append(f"commands that may not be repeated: {rig.unsafe}")
        log = (directory / "server.log").read_text()
        if "Traceback" in log:
            crowd.bad.append(f"traceback in the server's log: {log[log.index('Traceback') :][:3000]}")
        print(f"seed {seed}: answers {dict(sorted(crowd.asked.items()))}, {rig.kills} kills")
    return crowd


@pytest.mark.soak
@pytest.mark.timeout(int(MINUTES * 60) + 600)
async def test_operators_who_ask_anything_leave_no_node_behind(kit: ModuleType, tmp_path: Path) -> None:
    crowd = await live(kit, tmp_path, MINUTES, SEED)
    assert not crowd.bad, f"seed {SEED}:\n" + "\n".join(crowd.bad[:20])
