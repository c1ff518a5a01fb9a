"""The boot process: DHCP, TFTP, router advertisements, HTTP and HTTPS on one loop, answered from the snapshot.

Opens every socket and reads the TLS key as root, then keeps NET_BIND_SERVICE and
NET_RAW only (to bind again when an interface comes back). Has no database, no
operator's keys and no BMC.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from baremetal.boot.decide import Urls, decide
from baremetal.bootplane.app import make_apps
from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.standing import Standing
from baremetal.bootplane.state import Change, State
from baremetal.config import Settings, is_postgres
from baremetal.errors import MachineError, UsageError
from baremetal.model.network import Network
from baremetal.serve import child, collector, ports
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.grubtree import GrubTree
from baremetal.serve.http import Listener
from baremetal.serve.keyfiles import read_key
from baremetal.serve.listen import bind, tls_context
from baremetal.serve.loaders import LoaderTree, read_loaders, read_templates
from baremetal.serve.privileges import CAP_NET_BIND_SERVICE, CAP_NET_RAW
from baremetal.serve.ra import RouterAdvertiser
from baremetal.serve.sockets import PortTaken
from baremetal.serve.tftp import TftpServer

log = logging.getLogger("baremetal.serve.bootproc")  # __name__ is __main__ here

STAND_S = 0.25  # how soon a lapsed lease is noticed


async def serve(settings: Settings, life: child.Life) -> None:
    """Open, drop rights, answer until told to stop."""
    if not settings.networks:
        raise UsageError(
            "no provisioning network is configured", fix="add a [[network]] table; see docs/how-to/first-real-node.md"
        )
    state = State(Standing(shared=is_postgres(settings.database)))
    spool = Spool(settings.boot_dir / "spool.jsonl", settings.spool_limit)
    copy = SnapshotCopy(settings.boot_dir / "snapshot", read_key(settings, "boot.key"))
    link = Link(settings.plane_socket, state, spool, copy)
    link.recall()
    loaders = LoaderTree(read_loaders())
    async with contextlib.AsyncExitStack() as stack:
        web = [bind(network.server, settings.http_port) for network in settings.networks]
        web_tls = [bind(network.server, settings.https_port) for network in settings.networks]
        tls = tls_context(settings.tls_dir)
        packets = Packets(settings, state, link, loaders)
        stack.callback(packets.close)
        packets.open()
        life.drop(settings.boot_user, CAP_NET_BIND_SERVICE, CAP_NET_RAW)
        stack.push_async_callback(link.close)
        runner = asyncio.create_task(link.run())
        stack.callback(runner.cancel)
        apps = make_apps(state, link, templates=read_templates(), loaders=loaders, https_port=settings.https_port)
        packets.on_lapse = apps.wakeups.wake_all
        most = settings.http_connections
        await _listen(stack, Listener(apps.http, connections=most, quick=apps.quick), web)
        await _listen(stack, Listener(apps.https, connections=most, tls=tls), web_tls)
        collector.relax()
        life.ready()
        log.info("serving %s", ", ".join(f"{n.name} ({n.interface}, {n.server})" for n in settings.networks))
        await life.stop.wait()
        apps.wakeups.wake_all()


async def _listen(stack: contextlib.AsyncExitStack, listener: Listener, sockets: list[socket.socket]) -> None:
    await listener.start(sockets)
    stack.push_async_callback(listener.close)


class Packets:
    """The UDP services of every network, fed with what control pushes."""

    def __init__(self, settings: Settings, state: State, link: Link, loaders: LoaderTree) -> None:
        self._settings, self._state, self._link, self._loaders = settings, state, link, loaders
        self._dhcp: list[DhcpServer] = []
        self.on_lapse: Callable[[], None] | None = None
        self._closers: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._good = True

    def open(self) -> None:
        """Open every socket; MachineError says what stands in the way."""
        loop, templates = asyncio.get_running_loop(), read_templates()
        for network in self._settings.networks:
            self._dhcp.append(self._start_dhcp(network, loop))
            agents = f"https://{network.server}:{self._settings.https_port}"
            tree = GrubTree(self._loaders, self._state, self._link, templates, agents)
            tftp = TftpServer(network.server, self._settings.tftp_port, tree, self._event, interface=network.interface)
            self._start(tftp.start, loop, "udp", network.server, self._settings.tftp_port)
            self._closers.append(tftp.close)
            if network.ra_prefix:
                advertiser = RouterAdvertiser(network, self._event)
                advertiser.start(loop)
                self._closers.append(advertiser.close)
        self._state.listen(self._changed)
        self._stand()
        self._changed(Change(tuple(self._state.nodes.values()), (), whole=True))

    def _stand(self) -> None:
        """Several servers: answer only while control holds its lease, give out only the ranges that are ours."""
        standing = self._state.standing
        if standing.shared:
            good = standing.good()
            for lease in standing.take_leases():
                for server in self._dhcp:
                    server.adopt([lease])
            for server in self._dhcp:
                why = "" if good else "this server cannot reach the database: another one knows better"
                server.stand(why, standing.gives(server.network.name), standing.peers())
            if good != self._good:
                self._good = good
                log.warning("answers again" if good else "silent: control cannot say that what we know still holds")
                if self.on_lapse is not None and not good:
                    self.on_lapse()
        self._timer = asyncio.get_running_loop().call_later(STAND_S, self._stand)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for close in reversed(self._closers):
            close()

    def _start_dhcp(self, network: Network, loop: asyncio.AbstractEventLoop) -> DhcpServer:
        settings = self._settings
        urls = Urls(http=f"http://{network.server}:{settings.http_port}", loaders=self._loaders.table)
        server = DhcpServer(
            network,
            functools.partial(decide, urls=urls),
            self._event,
            settings.boot_dir / f"{network.name}.leases",
            port=settings.dhcp_port,
            boot_port=settings.proxy_dhcp_port,
        )
        self._start(server.start, loop, "udp", network.server, settings.dhcp_port)
        self._closers.append(server.close)
        return server

    def _start(
        self, start: Callable[[asyncio.AbstractEventLoop], None], loop: Any, protocol: str, address: str, port: int
    ) -> None:
        try:
            start(loop)
        except PortTaken as exc:
            if ports.holder(protocol, port) is None:
                raise
            raise ports.taken(protocol, address, port) from exc
        except OSError as exc:
            raise MachineError(f"cannot serve UDP port {port} on {address}", detail=str(exc)) from exc

    def _event(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "lease":
            body = event["body"]
            self._state.leased(body["address"], body["mac"])
            event = {**event, "body": {**body, "expires": self._state.standing.shared_time(body["expires"])}}
        if event["kind"] in ("loader-sent", "artifact-sent") and not event.get("node"):
            entry = self._state.by_address(str(event["body"].get("source", "")))
            event = {**event, "node": entry.view.node if entry else None}
        self._link.event(event)

    def _changed(self, change: Change) -> None:
        records = [entry.record for entry in change.nodes]
        for server in self._dhcp:
            if change.whole:
                server.update(records)
            else:
                server.change(records, change.gone)


if __name__ == "__main__":
    sys.exit(child.run("boot", serve))
