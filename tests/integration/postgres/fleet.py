"""A hall of simulated machines with several real control planes, each a process in a network namespace of its own.

The machines, their BMCs and the servers' boot planes (the real bootplane.Link and State) live in this process: a
server's boot plane outlives it here, as it does on a real host when only control dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baremetal.bmc.base import BootDevice, PowerOp
from baremetal.bmc.fake import FakeDriver, machine
from baremetal.bmc.url import BmcUrl
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.standing import Standing
from baremetal.bootplane.state import Change, State
from baremetal.errors import BaremetalError, Unreachable
from baremetal.lifecycle import Verb
from baremetal.protocol.plane import NodeView
from baremetal.store import Store, nodes, servers
from baremetal.store.seal import Sealer
from baremetal.workflows import registry, verbs
from baremetal.workflows.metadata import Signer
from baremetal.workflows.simulated import SimulatedImages, SimulatedRack, Timing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
DURABLE = ("report", "config-report")


class Namespaces:
    """`db` with a bridge, `s1` … beside it; nothing of it is in the host's own namespace."""

    def __init__(self, count: int) -> None:
        self.prefix = f"bm{os.getpid() % 10000}{uuid.uuid4().hex[:3]}"
        self.db = f"{self.prefix}-db"
        self.servers = [f"{self.prefix}-s{i}" for i in range(1, count + 1)]
        self.address = "10.77.0.1"

    def make(self) -> None:
        _ip("netns", "add", self.db)
        _ip("-n", self.db, "link", "set", "lo", "up")
        _ip("-n", self.db, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.db, "addr", "add", "10.77.0.1/24", "dev", "br0")
        _ip("-n", self.db, "link", "set", "br0", "up")
        for i, name in enumerate(self.servers, 1):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", self.db, "link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", self.db, "link", "set", f"v{i}", "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")

    def cut(self, index: int, down: bool = True) -> None:
        """Server `index` loses (or gets back) its way to the database; its machines are still there."""
        _ip("-n", self.db, "link", "set", f"v{index + 1}", "down" if down else "up")

    def slow(self, delay_ms: int) -> None:
        """Every packet between servers and database takes this long."""
        for name in self.servers:
            what = ["replace", "dev", "eth0", "root", "netem", "delay", f"{delay_ms}ms"]
            if not delay_ms:
                what = ["del", "dev", "eth0", "root"]
            subprocess.run(["tc", "-n", name, "qdisc", *what], check=False, capture_output=True)

    def destroy(self) -> None:
        for name in [*self.servers, self.db]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Serving:
    """One server: its process, and its boot plane here."""

    name: str
    netns: str
    arguments: list[str]
    log: Path
    state: State
    link: Link
    process: subprocess.Popen[bytes] | None = None
    supervised: bool = True
    tree: Path | None = None  # a checkout of another commit, whose code it runs
    pids: list[int] = field(default_factory=list)

    def good(self) -> bool:
        return self.link.synced and self.state.standing.good()

    def start(self) -> None:
        script, env = HERE / "fleet_server.py", dict(os.environ)
        if self.tree is not None:
            script = self.tree / script.relative_to(ROOT)
            env["PYTHONPATH"] = str(self.tree)
        command = [sys.executable, str(script), self.name, *self.arguments]
        if self.netns:
            command = ["ip", "netns", "exec", self.netns, *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        self.pids.append(self.process.pid)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and nobody starts it again."""
        self.supervised = False
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


class Hall(SimulatedRack):
    """Machines that turn to the server of their choice, and to the next one when that one cannot answer."""

    def __init__(self, servings: list[Serving], timing: Timing | None = None) -> None:
        super().__init__(None, timing)  # type: ignore[arg-type]
        self.servings = servings
        self.commands: list[tuple[float, int, str, str]] = []  # (when, pid, BMC, command)
        self._choice: dict[str, Serving | None] = {}
        for serving in servings:
            serving.state.listen(lambda change, s=serving: self._changed_at(s, change))  # type: ignore[misc]

    def _order(self, mac: str) -> list[Serving]:
        first = zlib.crc32(mac.encode()) % len(self.servings)
        return self.servings[first:] + self.servings[:first]

    def serving(self, mac: str) -> Serving | None:
        return next((s for s in self._order(mac) if s.good()), None)

    def _changed_at(self, serving: Serving, change: Change) -> None:
        views = [
            e.view for e in change.nodes if e.record.macs and self._choice.get(e.record.macs[0], serving) is serving
        ]
        self._pushed(views, list(change.gone))

    async def look_around(self) -> None:
        """For ever: who lost its server gets what the next one knows."""
        while True:
            for mac in list(self.by_mac):
                now = self.serving(mac)
                if now is not self._choice.get(mac):
                    self._choice[mac] = now
                    entry = now.state.by_mac(mac) if now else None
                    if entry:
                        self._pushed([entry.view], [])
            await asyncio.sleep(0.2)

    async def tell(self, kind: str, node: str | None, **body: Any) -> None:
        mac = self._mac_of(node, body)
        while True:
            serving = self.serving(mac)
            if serving is not None:
                try:
                    if kind in DURABLE:
                        await serving.link.tell_durably(kind, node, body)
                    else:
                        serving.link.note(kind, node, body)
                    return
                except BaremetalError:
                    pass
            await asyncio.sleep(0.2)

    def _mac_of(self, node: str | None, body: dict[str, Any]) -> str:
        view: NodeView | None = self.views.get(node or "")
        return str(view.boot["macs"][0]) if view and view.boot["macs"] else str(body.get("mac", ""))

    async def _hello(self, hello: Any) -> Any:
        from baremetal.protocol import agent

        for _ in range(300):
            serving = self.serving(hello.macs[0])
            try:
                if serving is None:
                    raise Unreachable("no server")
                body = {"hello": hello.to_json(), "source": "sim"}
                return agent.HelloAnswer.from_json(await serving.link.call("hello", body))
            except BaremetalError as exc:
                if getattr(exc, "said_code", exc.code) == "nonce-refused":
                    return None
                await asyncio.sleep(0.2)
        return None

    async def bmcs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The management network's far end."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                asyncio.create_task(self._command(writer, *json.loads(line)))  # noqa: RUF006

    async def _command(
        self, writer: asyncio.StreamWriter, number: int, pid: int, name: str, op: str, *args: Any
    ) -> None:
        self.commands.append((time.time(), pid, name, op))
        driver = FakeDriver(BmcUrl.parse(f"fake://{name}"), "pw")
        try:
            match op:
                case "power":
                    answer: Any = str(await driver.power())
                case "set_power":
                    await driver.set_power(PowerOp(args[0]))
                    answer = None
                case "get_boot":
                    answer = _doc(await driver.get_boot())
                case "set_boot":
                    answer = _doc(await driver.set_boot(BootDevice(args[0]), once=args[1], uefi=args[2]))
                case _:
                    answer = asdict(await driver.identify())
            good = True
        except Exception as exc:
            good, answer = False, str(exc)
        writer.write(json.dumps([number, good, answer], default=str).encode() + b"\n")


def _doc(plan: Any) -> dict[str, Any]:
    return {"device": str(plan.device), "once": plan.once, "uefi": plan.uefi}


class Fleet:
    """`async with Fleet(…) as fleet`: servers up. `url` is what they are told, `local` our own way to the database."""

    def __init__(
        self,
        directory: Path,
        url: str,
        local: str,
        count: int,
        *,
        netns: list[str] | None = None,
        timing: Timing | None = None,
        versions: list[str] | None = None,
        off_s: list[float] | None = None,
        tree: Path | None = None,
    ) -> None:
        self.directory, self.local = directory, local
        self.servings = []
        for i in range(count):
            name = f"s{i + 1}"
            spool = directory / f"{name}.spool"
            state = State(Standing(shared=True))
            link = Link(directory / f"{name}.plane", state, Spool(spool, 64 << 20))
            version, off = (versions or ["0.1.0"] * count)[i], (off_s or [0.0] * count)[i]
            arguments = [url, str(directory), version, str(off)]
            ns = netns[i] if netns else ""
            self.servings.append(Serving(name, ns, arguments, directory / f"{name}.log", state, link, tree=tree))
        self.hall = Hall(self.servings, timing)
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Fleet:
        self.store = await asyncio.to_thread(Store.open, self.local, "fleet")
        self._bmcs = await asyncio.start_unix_server(
            self.hall.bmcs, path=str(self.directory / "bmc.sock"), limit=1 << 20
        )
        for serving in self.servings:
            serving.start()
            self._tasks.append(asyncio.create_task(serving.link.run()))
        self._tasks += [asyncio.create_task(self.hall.look_around()), asyncio.create_task(self._supervise())]
        try:
            await self.until(lambda: all(s.good() for s in self.servings), 240, "servers")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for serving in self.servings:
            serving.supervised = False
        await self.hall.close()
        for serving in self.servings:
            if serving.process and serving.process.poll() is None:
                with contextlib.suppress(OSError):
                    serving.signal(signal.SIGCONT)
                    serving.signal(signal.SIGTERM)
        for serving in self.servings:
            if serving.process:
                try:
                    await asyncio.to_thread(serving.process.wait, 10)
                except subprocess.TimeoutExpired:
                    serving.process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._bmcs.close()
        with contextlib.suppress(BaremetalError):
            self.store.close()

    async def _supervise(self) -> None:
        """`baremetal serve` starts control again when it ends."""
        while True:
            for serving in self.servings:
                if serving.supervised and serving.process and serving.process.poll() is not None:
                    serving.start()
            await asyncio.sleep(0.3)

    async def until(self, test: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not test():
            if time.monotonic() > end:
                logs = "\n".join(f"--- {s.name}\n{_tail(s.log)}" for s in self.servings)
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{logs}")
            await asyncio.sleep(0.1)

    async def enroll(self, count: int) -> list[str]:
        """Machines, enrolled: on their way to manageable."""
        return await self._enrolled(count, {})

    async def _enrolled(self, count: int, more: dict[str, Any]) -> list[str]:
        names = [f"n{i:04}" for i in range(count)]
        world = _World()
        signer = Signer(_pem())
        jobs = []
        for name in names:
            self.hall.add(name)
            body, now = self.hall.body(name, **more), time.time()
            jobs.append(self.store.submit(lambda c, b=body, t=now: registry.enroll(c, world, signer, b, "test", t)))  # type: ignore[misc]
        for job in jobs:
            await asyncio.wrap_future(job)
        return names

    async def seed(self, count: int) -> list[str]:
        """Machines that were enrolled, inspected and cleaned before."""
        names = await self._enrolled(count, {"manage": False})
        ready = {"state": "available", "wanted": None, "wanted_args": {}, "work": {}, "wake_at": None, "power": "off"}
        disk = {"local_gb": 60}

        def settle(conn: Any) -> None:
            for name in names:
                nodes.see(conn, nodes.get(conn, name).id, **ready, properties=disk)

        await self.store.write(settle)
        return names

    async def ask(self, names: list[str], verb: str, **args: Any) -> None:
        images, now = SimulatedImages(), time.time()
        jobs = [
            self.store.submit(lambda c, n=n: verbs.ask(c, n, Verb(verb), args, "test", now, images))
            for n in names  # type: ignore[misc]
        ]
        for job in jobs:
            await asyncio.wrap_future(job)

    def counts(self) -> dict[str, int]:
        return self.store.read(nodes.counts)

    async def reach(self, state: str, count: int, seconds: float) -> None:
        """Until so many nodes are in this state and nothing is under way."""

        def there() -> bool:
            try:
                return self.counts().get(state, 0) >= count and not self.store.read(nodes.working)
            except BaremetalError:
                return False

        await self.until(there, seconds, f"{count} {state}, there are {self._safe_counts()}")

    def _safe_counts(self) -> str:
        with contextlib.suppress(BaremetalError):
            return f"{self.counts()}, faults {self.store.read(nodes.faults)}"
        return "no database"

    def faults(self) -> list[str]:
        return [str(n.fault) for n in self.store.read(lambda c: nodes.page(c, limit=None)) if n.fault]

    def driven(self) -> dict[str, int]:
        """Server name -> nodes it drives now."""

        def query(conn: Any) -> dict[str, int]:
            names = {s.id: s.name for s in servers.newest(conn)}
            return {names.get(k, k): v for k, v in servers.counts(conn).items()}

        return self.store.read(query)

    def driven_by(self, name: str) -> set[str]:
        """The nodes that this server drives now."""
        lives = {s.id for s in self.store.read(servers.newest) if s.name == name}
        return {node for node, (life, _) in self.store.read(servers.driven).items() if life in lives}

    def since_kill(self, pid: int, after: float) -> list[tuple[float, int, str, str]]:
        """BMC commands of this process after that time."""
        return [c for c in self.hall.commands if c[1] == pid and c[0] > after]


class _World:
    """As much of a World as enrolment needs."""

    def __init__(self) -> None:
        from baremetal.workflows.policy import Policy
        from baremetal.workflows.site import Site

        self.operator, self.metadata = Sealer(b"o" * 32), Sealer(b"m" * 32)
        self.policy, self.site, self.now = Policy(), Site(), time.time
        self.signing_pem = _pem()


def _pem() -> bytes:
    sys.path.insert(0, str(HERE))
    from fleet_server import PEM

    return PEM


def _tail(path: Path) -> str:
    return path.read_text()[-1500:] if path.exists() else ""


def machine_of(fleet: Fleet, name: str) -> Any:
    return machine(fleet.hall.boxes[name].bmc.name)
