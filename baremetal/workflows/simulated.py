"""A rack of simulated machines: fake BMCs, and a boot plane and agents that speak the real contract.

Everything between is real: passes, engine, store, inbox, nonces, tokens,
orders, config drives. Used by tests, by the benchmark and for rehearsals with
thousands of nodes. Sends nothing on any network.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from baremetal.bmc.base import BmcDriver, BootDevice, BootPlan
from baremetal.bmc.fake import FakeDriver, FakeMachine, machine
from baremetal.bmc.manual import ManualDriver
from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError, NotFound
from baremetal.model.boot import Purpose
from baremetal.model.image import Manifest
from baremetal.protocol import agent, configdrive, nonce
from baremetal.protocol.plane import Message, NodeView
from baremetal.secrets import Secret
from baremetal.workflows.conductor import Conductor

# What can go wrong with a simulated machine.
FAULTS = (
    "no-dhcp",
    "no-loader",
    "no-kernel",
    "no-hello",
    "agent-dies",
    "write-fails",
    "config-fails",
    "no-first-boot",
    "clean-unproved",
)


@dataclass(frozen=True)
class Timing:
    """Seconds each stage takes, before jitter (a factor between 1 and 1 + `jitter`)."""

    post_s: float = 0.0
    loader_s: float = 0.0
    kernel_s: float = 0.0
    inspect_s: float = 0.0
    clean_s: float = 0.0
    write_s: float = 0.0
    first_boot_s: float = 0.0
    jitter: float = 0.0

    def scaled(self, seconds: float) -> float:
        """With jitter."""
        return seconds * (1 + random.random() * self.jitter)


@dataclass(frozen=True)
class SimulatedImage:
    """An image that exists in name only."""

    id: str = "sha256:" + "a" * 64
    name: str = "web"
    kind: str = "disk"
    dir: str = "/nonexistent"
    manifest: Manifest | None = None
    properties: dict[str, str] = field(default_factory=lambda: {"agent": "baremetal"})
    tags: tuple[str, ...] = ()


class SimulatedImages:
    """An image store with these images."""

    def __init__(self, *images: SimulatedImage, anything: bool = False) -> None:
        self.anything = anything
        self.images = images or (SimulatedImage(),)

    def get(self, name_or_id: str) -> SimulatedImage:
        """By name or id; with `anything`, whatever is asked for."""
        for image in self.images:
            if name_or_id in (image.name, image.id):
                return image
        if self.anything and name_or_id:
            return SimulatedImage(id=name_or_id, name=name_or_id, properties={})
        raise NotFound(f"no image {name_or_id!r}", fix="baremetal image list")

    def list(self) -> tuple[SimulatedImage, ...]:
        """All of them."""
        return self.images


class FakeDrivers:
    """Drivers for `fake://name` and `manual://name`, in this process."""

    def driver(self, url: str, password: Secret) -> BmcDriver:
        """As bmc.pool.BmcPool.driver."""
        if url.startswith("manual:"):
            return ManualDriver(url)
        return FakeDriver(BmcUrl.parse(url), password.reveal())


@dataclass
class Box:
    """One machine: its BMC, its disk, what runs on it."""

    name: str
    mac: str
    bmc: FakeMachine
    node: str | None = None  # known by its id, for machines without a NIC in the records
    faults: set[str] = field(default_factory=set)
    disk: str | None = None  # text of the config drive last written
    wiped: int = 0
    written: int = 0
    content: list[str] = field(default_factory=list)  # what lies on its disk, as inspection tells it
    hardware: dict[str, Any] = field(default_factory=dict)  # laid over the inventory
    let_in: dict[str, Any] | None = None  # the last rescue order
    token: str | None = None
    running: asyncio.Task[None] | None = None
    called_at: float | None = None  # its agent called (hello or report); the next action has not been seen yet
    called_about: str | None = None  # the order reported


class SimulatedRack:
    """Boot plane, wire and machines in one."""

    def __init__(self, conductor: Conductor, timing: Timing | None = None, prefix: str = "") -> None:
        self.con = conductor
        self.timing = timing or Timing()
        self.prefix = prefix or uuid.uuid4().hex[:6]
        self.boxes: dict[str, Box] = {}
        self.by_mac: dict[str, Box] = {}
        self.views: dict[str, NodeView] = {}
        self._node_of_mac: dict[str, str] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)
        self._outbox: list[tuple[Message, asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None
        # From an agent's call-back (hello, report) to the next action: an order pushed, the reported one withdrawn,
        # or a command to its BMC. Seconds.
        self.reactions_s: list[float] = []

    def connect(self, conductor: Conductor | None = None) -> None:
        """Take the snapshot, as the boot plane does when it (re)connects."""
        self.con = conductor or self.con
        self._pushed([NodeView.from_json(doc) for doc in self.con.snapshot().nodes], [])
        self.con.on_push(self._pushed)

    def add(self, name: str, **options: Any) -> Box:
        """A machine, switched off. Its BMC is `fake://<prefix>-<name>`."""
        number = len(self.boxes)
        mac = f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        box = Box(name, mac, machine(f"{self.prefix}-{name}"))
        for key, value in options.items():
            setattr(box.bmc, key, value)
        box.bmc.on_start = lambda _m, plan: self._started(box, plan)
        box.bmc.on_stop = lambda _m: self._stopped(box)
        box.bmc.on_command = lambda _m: self._acted(box)
        self.boxes[name] = self.by_mac[mac] = box
        return box

    def adopt(self, node_id: str) -> Box:
        """The machine behind `fake://<node id>`: it is recognised by its UUID, as machines without known NIC are."""
        if node_id not in self.boxes:
            box = Box(node_id, "", machine(node_id), node=node_id)
            box.bmc.on_start = lambda _m, plan: self._started(box, plan)
            box.bmc.on_stop = lambda _m: self._stopped(box)
            self.boxes[node_id] = box
        return self.boxes[node_id]

    def body(self, name: str, **more: Any) -> dict[str, Any]:
        """The enrolment of this machine."""
        box = self.boxes[name]
        return {"name": name, "bmc_url": f"fake://{box.bmc.name}", "macs": [box.mac], "password": "pw", **more}

    async def close(self) -> None:
        """Everything off."""
        for box in self.boxes.values():
            box.bmc.on_start = box.bmc.on_stop = None
            self._stopped(box)
        if self._sender is not None:
            self._sender.cancel()

    # -- the boot plane ------------------------------------------------------------

    def _pushed(self, views: list[NodeView], gone: list[str]) -> None:
        for view in views:
            self.views[view.node] = view
            self._reaction(view)
            for mac in view.boot["macs"]:
                self._node_of_mac[mac] = view.node
            if event := self._changed.get(view.node):
                event.set()
        for node in gone:
            self.views.pop(node, None)

    def _reaction(self, view: NodeView) -> None:
        """A push about a node whose agent called: another order than the one it spoke of."""
        order = view.order["id"] if view.order else None
        for mac in view.boot["macs"]:
            box = self.by_mac.get(mac)
            if box and order != box.called_about:
                self._acted(box)

    def _called(self, box: Box, about: str | None = None) -> None:
        box.called_at, box.called_about = time.monotonic(), about

    def _acted(self, box: Box) -> None:
        if box.called_at is not None:
            self.reactions_s.append(time.monotonic() - box.called_at)
            box.called_at = None

    def view(self, box: Box) -> NodeView | None:
        """What the boot plane knows of this machine."""
        return self.views.get(box.node or self._node_of_mac.get(box.mac, ""))

    async def tell(self, kind: str, node: str | None, **body: Any) -> None:
        """One message to control, batched as the real boot plane does; returns when it is stored."""
        message = Message(f"{self.prefix}-{next(self._numbers)}", kind, time.time(), node, body)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.append((message, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        await future

    async def _send(self) -> None:
        while self._outbox:
            batch, self._outbox = self._outbox[:200], self._outbox[200:]
            while True:  # spooled while control is away
                try:
                    await self.con.inbox.messages([message for message, _ in batch])
                    break
                except BaremetalError:
                    await asyncio.sleep(0.2)
            for _, future in batch:
                if not future.done():
                    future.set_result(None)

    # -- the machine -----------------------------------------------------------------

    def _started(self, box: Box, plan: BootPlan) -> None:
        self._stopped(box)
        box.running = asyncio.get_running_loop().create_task(self._life(box, plan), name=f"box-{box.name}")

    def _stopped(self, box: Box) -> None:
        if box.running:
            box.running.cancel()
            box.running = None

    async def _life(self, box: Box, plan: BootPlan) -> None:
        await self._sleep(self.timing.post_s)
        if plan.device is BootDevice.PXE and "no-dhcp" not in box.faults and await self._netboot(box):
            return
        if box.disk is not None:
            await self._first_boot(box)

    async def _netboot(self, box: Box) -> bool:
        """True when the ramdisk runs to its end."""
        view = self.view(box)
        if view is None:
            await self.tell("unknown-seen", None, mac=box.mac, arch="bios", loader="firmware", network="sim")
            return False
        node = view.node
        purpose = view.boot["purpose"]
        await self.tell(
            "boot-seen",
            node,
            mac=box.mac,
            arch="bios",
            loader="firmware",
            decision=purpose,
            because=view.boot["because"],
        )
        if purpose == Purpose.NETBOOT:
            for name in (view.boot["kernel"], view.boot["initrd"]):
                await self.tell("artifact-sent", node, name=name, bytes=10_000_000, seconds=0.2)
            return True
        if purpose != Purpose.RAMDISK:
            return False
        if "no-loader" in box.faults:
            return True
        await self._sleep(self.timing.loader_s)
        await self.tell("loader-sent", node, name="undionly.kpxe", via="tftp", bytes=70000, seconds=0.1)
        view = self.view(box) or view
        if view.nonce_key is None:
            return False
        made = nonce.make(view.nonce_key, node, view.boot["boot_id"], int(time.time() * 1000))
        await self.tell("script-sent", node, nonce_id=made.partition(".")[0], boot_id=view.boot["boot_id"])
        if "no-kernel" in box.faults:
            return True
        await self._sleep(self.timing.kernel_s)
        await self.tell("artifact-sent", node, name=view.boot["kernel"], bytes=10_000_000, seconds=0.2)
        if "no-hello" in box.faults:
            return True
        self._called(box)
        answer = await self._hello(agent.Hello(made, _macs(box), uuid=box.bmc.uuid, firmware="bios"))
        if answer:
            await self._ramdisk(box, answer)
        return True

    async def _hello(self, hello: agent.Hello) -> agent.HelloAnswer | None:
        for _ in range(300):
            try:
                return agent.HelloAnswer.from_json(
                    await self.con.inbox.call("hello", {"hello": hello.to_json(), "source": "sim"})
                )
            except BaremetalError as exc:
                if exc.code == "nonce-refused":
                    return None
                await asyncio.sleep(0.2)
        return None

    async def _ramdisk(self, box: Box, answer: agent.HelloAnswer) -> None:
        """Takes orders until the power goes."""
        changed = self._changed.setdefault(answer.node, asyncio.Event())
        last: str | None = None
        beat_at = 0.0
        while True:
            changed.clear()
            view = self.views.get(answer.node)
            order = view.order if view else None
            if order and order["id"] != last:
                last = order["id"]
                await self._obey(box, answer, agent.Order.from_json(order))
                continue
            if time.monotonic() - beat_at > 10:
                beat_at = time.monotonic()
                await self.tell("beat", answer.node, boot_id=answer.boot_id, agent="ramdisk")
            with contextlib.suppress(TimeoutError):  # not wait_for: before 3.12 it can swallow a cancellation
                async with asyncio.timeout(10):
                    await changed.wait()

    async def _obey(self, box: Box, who: agent.HelloAnswer, order: agent.Order) -> None:
        if "agent-dies" in box.faults:
            await asyncio.sleep(3600)
        data: dict[str, Any] = {}
        fault: dict[str, Any] | None = None
        match order.kind:
            case agent.INSPECT:
                await self._sleep(self.timing.inspect_s)
                data = {"inventory": inventory(box)}
            case agent.CLEAN:
                await self._sleep(self.timing.clean_s)
                data, fault = _cleaned(box, order.args)
            case agent.WRITE_IMAGE:
                fault = await self._write(box, who, order)
                data = {"disk": "/dev/sda", "serial": f"S-{box.name}", "bytes": 2**30, "seconds": self.timing.write_s}
            case agent.RAID_CREATE:
                made = enumerate(order.args["logical_disks"])
                data = {"logical_disks": [{"name": f"/dev/md{n}", "raid_level": d["raid_level"]} for n, d in made]}
            case agent.RAID_DELETE:
                data = {"stopped": ["md0"], "wiped": [{"name": "/dev/sda"}]}
            case agent.RUN_STEP:
                data, fault = _ran(order.args)
            case agent.RESCUE:
                box.let_in = dict(order.args)
                data = {"consoles": ["ttyS0"], "ssh": order.args.get("ssh")}
        outcome = agent.FAILED if fault else agent.DONE
        report = agent.Report(order.id, outcome, data, fault)
        self._called(box, order.id)
        await self.tell("report", who.node, report=report.to_json(), boot_id=who.boot_id)

    async def _write(self, box: Box, who: agent.HelloAnswer, order: agent.Order) -> dict[str, Any] | None:
        half = agent.Report(order.id, agent.PROGRESS, {"stage": "write", "done": 50, "total": 100, "unit": "%"})
        await self._sleep(self.timing.write_s / 2)
        await self.tell("report", who.node, report=half.to_json(), boot_id=who.boot_id)
        await self._sleep(self.timing.write_s / 2)
        if "write-fails" in box.faults:
            return {
                "code": "image-chunk-corrupt",
                "brief": f"{box.name}: chunk 7 has a wrong checksum",
                "fix": "add the image again",
            }
        box.written += 1
        box.disk = order.args.get("config_drive") or ""
        return None

    async def _first_boot(self, box: Box) -> None:
        """The deployed system's agent: hello with the drive's nonce, then a configuration report."""
        await self._sleep(self.timing.first_boot_s)
        if "no-first-boot" in box.faults or not box.disk:
            return
        doc = json.loads(_file(box.disk, "baremetal/agent.json"))
        answer = await self._hello(agent.Hello(doc["nonce"], _macs(box), uuid=box.bmc.uuid, agent=agent.INSTANCE))
        if answer is None:
            return
        bad = "config-fails" in box.faults
        scripts = [
            {"phase": "configure.d", "name": "50-web", "exit": 1 if bad else 0, "seconds": 0.1, "tail": "no such file"}
        ]
        report = agent.ConfigReport(1, "failed" if bad else "applied", [], scripts, 0.2)
        self._called(box, "configuration")
        await self.tell("config-report", answer.node, report=report.to_json())

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(self.timing.scaled(seconds))


def _cleaned(box: Box, args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """As the agent does it: every listed disk with proof; foreign data only with the operator's word."""
    guarded = [d for d in args["disks"] if d.get("foreign") is False]
    if box.content and guarded:
        brief = f"{len(guarded)} disk of this machine hold data that was never ours to erase"
        return {}, {"code": "foreign-data", "brief": brief, "detail": "; ".join(box.content), "fix": "--erase-foreign"}
    box.wiped += 1
    box.disk, box.content = None, []
    done = {"method": args["method"], "bytes_verified": 0 if "clean-unproved" in box.faults else 2**20}
    return {"disks": [{"name": d["name"], "serial": d["serial"], **done} for d in args["disks"]]}, None


def _ran(args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if args["script"] == "broken":
        return {}, {"code": "step-failed", "brief": "step broken ended with 3", "detail": "no such card", "fix": "look"}
    return {"script": args["script"], "result": {"given": args["args"]}, "seconds": 0.1, "tail": []}, None


def inventory(box: Box) -> dict[str, Any]:
    """What the simulated ramdisk finds, in Ironic's shape."""
    return {**_inventory(box), **box.hardware}


def _inventory(box: Box) -> dict[str, Any]:
    return {
        "cpu": {"count": 4, "architecture": "x86_64", "model_name": "Simulated"},
        "memory": {"total": 8 * 2**30, "physical_mb": 8192},
        "disks": [
            {
                "name": "/dev/sda",
                "serial": f"S-{box.name}",
                "wwn": None,
                "size": 64 * 10**9,
                "removable": False,
                "content": box.content,
            },
            {"name": "/dev/sr0", "serial": None, "size": 700 * 10**6, "removable": True},
        ],
        "interfaces": [{"name": "eth0", "mac_address": mac} for mac in _macs(box)],
        "system_vendor": {"serial_number": f"FAKE-{box.bmc.name}", "uuid": box.bmc.uuid, "manufacturer": "Fake"},
        "boot": {"current_boot_mode": "bios"},
    }


def _macs(box: Box) -> list[str]:
    return [box.mac] if box.mac else []


def _file(drive: str, path: str) -> bytes:
    return configdrive.read(configdrive.unpack(drive))[path]
