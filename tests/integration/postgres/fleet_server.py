"""One control plane of several, as a process: everything real but the BMCs, which live in the test's process.

python fleet_server.py NAME URL DIRECTORY [VERSION] [CLOCK_OFF_S]
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from baremetal.api.planelink import PlaneLink
from baremetal.bmc import faults
from baremetal.bmc.base import BootDevice, BootPlan, Cap, Identity, PowerOp
from baremetal.engine.cluster import Cluster
from baremetal.model.node import Power
from baremetal.secrets import Secret
from baremetal.serve.several import stand
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.policy import Policy
from baremetal.workflows.simulated import SimulatedImages
from baremetal.workflows.site import Keys, Ramdisk, Site

PEM = Ed25519PrivateKey.from_private_bytes(b"s" * 32).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEYS = Keys(b"o" * 32, b"m" * 32, PEM)
LIMITS = {"deploy_limit": 10_000, "clean_limit": 10_000, "inspect_limit": 10_000}


class Wire:
    """The management network: one unix socket to all BMCs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._lock = asyncio.Lock()

    async def ask(self, bmc: str, op: str, *args: Any) -> Any:
        async with self._lock:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=1 << 20)
                self._task = asyncio.create_task(self._read(reader))
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps([number, os.getpid(), bmc, op, *args]).encode() + b"\n")
        good, answer = await future
        if not good:
            raise faults.BmcUnreachable(str(answer))
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            number, good, answer = json.loads(line)
            if future := self._waiting.pop(number, None):
                future.set_result((good, answer))


class Driver:
    """A BMC behind the wire."""

    caps = frozenset({Cap.POWER, Cap.BOOT})

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire, self._name = wire, url.removeprefix("fake://")

    async def identify(self) -> Identity:
        return Identity(**await self._wire.ask(self._name, "identify"))

    async def power(self) -> Power:
        return Power(await self._wire.ask(self._name, "power"))

    async def set_power(self, op: PowerOp) -> None:
        await self._wire.ask(self._name, "set_power", str(op))

    async def get_boot(self) -> BootPlan:
        return _plan(await self._wire.ask(self._name, "get_boot"))

    async def set_boot(self, device: BootDevice, *, once: bool = True, uefi: bool | None = None) -> BootPlan:
        return _plan(await self._wire.ask(self._name, "set_boot", str(device), once, uefi))

    async def reset_bmc(self) -> None:
        return None

    async def close(self) -> None:
        return None


def _plan(doc: dict[str, Any]) -> BootPlan:
    return BootPlan(BootDevice(doc["device"]), doc["once"], doc["uefi"])


class Drivers:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def driver(self, url: str, password: Secret) -> Any:
        return Driver(self._wire, url)


async def main(name: str, url: str, directory: Path, version: str = "0.1.0", off_s: str = "0") -> None:
    real = time.time
    time.time = lambda: real() + float(off_s)  # type: ignore[assignment]
    cluster = Cluster(
        url,
        name=name,
        version=version,
        site="fleet",
        urls=[f"https://{name}:8443"],
        pools=["prov"],
        on_lost=lambda by: os._exit(6),
    )
    store = cluster.open_store()
    cluster.join()
    con = Conductor(
        store=store,
        keys=KEYS,
        bmc=Drivers(Wire(directory / "bmc.sock")),
        site=Site(ca_pem="CA", ramdisks={"": Ramdisk("vmlinuz", "initrd")}),
        images=SimulatedImages(),
        policy=Policy(**LIMITS, power_sync_s=3600.0),
        cluster=cluster,
    )
    link = PlaneLink(con.inbox, con.snapshot, lambda: con.version, con.planes)
    con.on_push(link.push)
    con.on_site_change(link.push_all)
    await con.start()
    path = directory / f"{name}.plane"
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(link.handle, path=str(path), limit=64 << 20)
    standing = asyncio.create_task(stand(con, cluster, link))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", cluster.me.id, flush=True)
    last = (0.0, 0.0)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 5)
        now = time.process_time()
        stats = con.engine.stats()
        late = sorted(stats.late_s)
        p95 = late[int(len(late) * 0.95)] * 1000 if late else 0
        print(
            f"cpu {now - last[0]:.1f}s/5s passes {stats.passes} crashes {stats.crashes} late_p95 {p95:.0f} ms",
            flush=True,
        )
        last = (now, 0.0)
    standing.cancel()
    server.close()
    await con.stop()
    cluster.leave()
    store.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format=f"{sys.argv[1]} %(levelname)s %(name)s %(message)s")
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:]))
