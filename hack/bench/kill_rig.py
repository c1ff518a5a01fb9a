"""A real server process over simulated machines, made to be killed: shared by engine-kill and the soak test.

    python hack/bench/kill_rig.py --serve DIR [POLICY as JSON]

The server is store, conductor, plane link and API on unix sockets in DIR, put together as serve/control.py does.
Machines and boot plane live in the process that uses this module: BMC commands come over a socket, messages over
the boot plane's own link with its spool. `Loss` loses commands, answers and requests on the way, as a network does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from baremetal.bmc import faults
from baremetal.bmc.base import BootDevice, BootPlan, Identity, PowerOp
from baremetal.bmc.fake import FakeDriver
from baremetal.bmc.url import BmcUrl
from baremetal.bootplane.link import CallFailed, Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import Change, State
from baremetal.errors import BaremetalError, Denied, Unreachable
from baremetal.model.node import Power
from baremetal.protocol.plane import Message, Snapshot
from baremetal.secrets import Secret
from baremetal.workflows.simulated import SimulatedImages, SimulatedRack, Timing

DEADLINE_S = 5.0  # of a command, as every BMC driver has one

# -- the server process -------------------------------------------------------------


class Wire:
    """A BMC in the other process: one line of JSON there, one back."""

    def __init__(self, directory: Path, url: str) -> None:
        self.socket, self.url = directory / "bmc.sock", url

    async def ask(self, op: str, *args: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError as exc:
            raise faults.BmcUnreachable(f"no BMC at {self.url}", detail=str(exc), fix="look at its cable") from exc
        try:
            writer.write(json.dumps({"url": self.url, "op": op, "args": args}).encode() + b"\n")
            async with asyncio.timeout(DEADLINE_S):
                line = await reader.readline()
        except (ConnectionError, TimeoutError):
            line = b""
        finally:
            writer.close()
        if not line:
            raise faults.BmcUnreachable(f"BMC {self.url} did not answer", detail="lost", fix="look at its cable")
        doc = json.loads(line)
        if "error" in doc:
            raise faults.from_json(doc["error"])
        return doc["ok"]

    async def identify(self) -> Identity:
        return Identity(serial=await self.ask("identify"))

    async def power(self) -> Power:
        return Power(await self.ask("power"))

    async def set_power(self, op: PowerOp) -> None:
        await self.ask("set_power", str(op))

    async def get_boot(self) -> BootPlan:
        return BootPlan(BootDevice(await self.ask("get_boot")), False)

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        return BootPlan(BootDevice(await self.ask("set_boot", str(device), once)), once)

    async def reset_bmc(self) -> None:
        await self.ask("reset_bmc")

    async def close(self) -> None:
        return


class Wires:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def driver(self, url: str, password: Secret) -> Any:
        return Wire(self.directory, url)


async def serve(directory: Path, policy: dict[str, Any]) -> None:
    """The server: as serve/control.py puts it together, with simulated BMCs and no rights to drop."""
    from baremetal.api.planelink import PlaneLink
    from baremetal.protocol.plane import MAX_FRAME
    from baremetal.serve.control import bind_unix
    from baremetal.store import Store
    from baremetal.workflows.conductor import Conductor
    from baremetal.workflows.policy import Policy
    from baremetal.workflows.site import Keys, Ramdisk, Site

    gc.disable()
    limits = dict.fromkeys(("deploy_limit", "clean_limit", "inspect_limit"), 100_000)
    con = Conductor(
        store=Store.open(f"sqlite:///{directory}/kill.db"),
        keys=Keys(b"o" * 32, b"m" * 32, (directory / "signing.pem").read_bytes()),
        bmc=Wires(directory),
        site=Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")}),
        images=SimulatedImages(),
        policy=Policy(**{**limits, "sensor_poll_s": 0.0, "audit_bmcs": False, **policy}),
    )
    link = PlaneLink(con.inbox, con.snapshot, lambda: con.version)
    con.on_push(link.push)
    await con.start()
    plane = bind_unix(directory / "plane.sock", "")
    await asyncio.start_unix_server(link.handle, sock=plane, limit=MAX_FRAME + 1)
    await asyncio.to_thread(lambda: [importlib.import_module(f"baremetal.{n}") for n in ("api.app", "serve.apithread")])
    from baremetal.api.app import create_app
    from baremetal.serve.apithread import ApiThread, Front

    thread = ApiThread()
    await thread.listen(Front(create_app(con), asyncio.get_running_loop()), bind_unix(directory / "api.sock", ""))
    gc.freeze()
    gc.enable()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await thread.close()
    await con.stop()
    con.store.close()


# -- machines and boot plane ------------------------------------------------------------


@dataclass
class Loss:
    """The share of packets that get lost, of BMC commands and of agents' requests; half of them on the way back."""

    share: float = 0.0
    silence_s: float = 0.3  # how long a lost one is waited for
    lost: int = 0

    async def there(self) -> bool:
        """Is it lost on the way there?"""
        return await self._lose()

    async def back(self) -> bool:
        """Is the answer lost?"""
        return await self._lose()

    async def _lose(self) -> bool:
        if random.random() >= self.share / 2:
            return False
        self.lost += 1
        await asyncio.sleep(self.silence_s)
        return True


class Plane:
    """The rack's way to control: the boot plane's own link, spool and tables."""

    def __init__(self, directory: Path, loss: Loss) -> None:
        self.state, self.loss = State(), loss
        self.link = Link(directory / "plane.sock", self.state, Spool(directory / "spool.jsonl"))
        self.inbox = self

    async def messages(self, batch: list[Message]) -> None:
        for message in batch:
            self.link.tell(message.kind, message.node, message.body)

    async def call(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        if await self.loss.there():
            raise Unreachable("the request was lost")
        try:
            answer = await self.link.call(kind, body)
        except CallFailed as exc:
            if exc.said_code == "nonce-refused":
                refused = Denied(exc.brief)
                refused.code = "nonce-refused"  # type: ignore[misc]
                raise refused from exc
            raise Unreachable(exc.brief) from exc
        if await self.loss.back():
            raise Unreachable("the answer was lost")
        return answer

    def snapshot(self) -> Snapshot:
        return self.state.to_snapshot()

    def on_push(self, push: Any) -> None:
        def changed(change: Change) -> None:
            entries = self.state.nodes.values() if change.whole else change.nodes
            push([entry.view for entry in entries], list(change.gone))

        self.state.listen(changed)


@dataclass
class Rig:
    """Server process, BMCs, boot plane and machines; use as a context."""

    directory: Path
    timing: Timing
    policy: dict[str, Any] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    unsafe: list[str] = field(default_factory=list)
    commands: int = 0
    kills: int = 0
    answered_s: list[float] = field(default_factory=list)  # from kill to the first answer of the API
    linked_s: list[float] = field(default_factory=list)  # from kill to taking agents' call-backs, passes running

    async def __aenter__(self) -> Rig:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.directory / "signing.pem").write_bytes(pem)
        socket = str(self.directory / "bmc.sock")
        self._bmcs = await asyncio.start_unix_server(self._bmc, socket, backlog=2048)
        self.log = (self.directory / "server.log").open("a")
        transport = httpx.AsyncHTTPTransport(uds=str(self.directory / "api.sock"))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://control", timeout=120)
        begun = time.monotonic()
        await self.start()
        await self.answers()
        self.first_start_s = time.monotonic() - begun
        self.plane = Plane(self.directory, self.loss)
        self._linking = asyncio.create_task(self.plane.link.run())
        self.rack = SimulatedRack(self.plane, self.timing)  # type: ignore[arg-type]
        self.rack.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rack.close()
        self._linking.cancel()
        await self._http.aclose()
        if self.child.returncode is None:
            self.child.terminate()
            await self.child.wait()
        self._bmcs.close()
        self.log.close()

    async def start(self) -> None:
        """A server process; it may not answer yet."""
        words = ("--serve", str(self.directory), json.dumps(self.policy))
        self.child = await asyncio.create_subprocess_exec(sys.executable, __file__, *words, stderr=self.log)

    async def answers(self) -> None:
        """Wait until the API answers."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self.ask("GET", "/api/health")
                return
            assert self.child.returncode is None, (self.directory / "server.log").read_text()[-3000:]
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """kill -9, and start again."""
        self.child.send_signal(signal.SIGKILL)
        await self.child.wait()
        self.kills += 1
        begun = time.monotonic()
        await self.start()
        linked = asyncio.create_task(self._linked(begun))
        await self.answers()
        self.answered_s.append(time.monotonic() - begun)
        await linked

    async def _linked(self, begun: float) -> None:
        """Until the boot plane's messages are taken, which begins when passes run again."""
        for synced in (False, True):  # that of the dead server ends first
            while self.plane.link.synced is not synced:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        self.linked_s.append(time.monotonic() - begun)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return (await self._http.request(method, path, json=body)).json()

    async def patient(self, method: str, path: str, body: Any = None) -> Any:
        """As an operator would: ask again when the server was away."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                return await self.ask(method, path, body)
            await asyncio.sleep(0.1)

    def memory_mb(self, what: str = "Pss") -> float:
        """Memory of the server. Pss_Anon leaves out mapped files: 128 MB of the database are mapped as it grows."""
        for line in Path(f"/proc/{self.child.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def handles(self) -> int:
        """Open files of the server."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    async def enroll(self, count: int) -> None:
        """So many machines, by one import."""
        names = [f"r{i // 40 + 1:02}-u{i % 40 + 1:02}" for i in range(count)]
        for name in names:
            self.rack.add(name)
        await self.patient("POST", "/api/nodes/import", {"nodes": [self.rack.body(name) for name in names]})

    async def _bmc(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            doc = json.loads(await reader.readline())
            self.commands += 1
            if not await self.loss.there():
                driver = FakeDriver(BmcUrl.parse(doc["url"]), "pw")
                try:
                    answer = {"ok": await self._command(driver, doc["op"], doc["args"])}
                except faults.BmcError as exc:
                    answer = {"error": exc.to_json()}
                if not await self.loss.back():
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        writer.close()

    async def _command(self, driver: FakeDriver, op: str, args: list[Any]) -> Any:
        if op == "identify":
            return (await driver.identify()).serial
        if op == "power":
            return str(await driver.power())
        if op == "reset_bmc":
            return await driver.reset_bmc()
        if op == "get_boot":
            return str((await driver.get_boot()).device)
        if op == "set_boot":
            return str((await driver.set_boot(BootDevice(args[0]), once=args[1])).device)
        if args[0] not in ("on", "off", "soft"):
            self.unsafe.append(args[0])
        return await driver.set_power(PowerOp(args[0]))


def main() -> None:
    _, flag, directory, *policy = sys.argv
    assert flag == "--serve"
    with contextlib.suppress(KeyboardInterrupt, BaremetalError):
        asyncio.run(serve(Path(directory), json.loads(policy[0]) if policy else {}))


if __name__ == "__main__":
    main()
