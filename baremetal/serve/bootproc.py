"""The boot process: DHCP, TFTP, router advertisements, HTTP and HTTPS on one loop, answered from the snapshot.

Opens every socket and reads the TLS key as root, then keeps NET_BIND_SERVICE and
NET_RAW only (to bind again when an interface comes back). Has no database, no
operator's keys and no BMC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from baremetal.bootplane.app import make_apps
from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.standing import Standing
from baremetal.bootplane.state import Change, State
from baremetal.config import Settings, is_postgres
from baremetal.errors import BaremetalError, UsageError
from baremetal.model.network import Network
from baremetal.serve import child, collector
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.http import Listener
from baremetal.serve.keyfiles import read_key
from baremetal.serve.listen import tls_context
from baremetal.serve.loaders import LoaderTree, read_loaders, read_templates
from baremetal.serve.privileges import CAP_NET_BIND_SERVICE, CAP_NET_RAW
from baremetal.serve.segments import Segment, by_interface
from baremetal.serve.webs import Webs, addresses

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
        tls = tls_context(settings.tls_dir)
        webs = Webs(settings, tls)
        webs.open(addresses(settings.networks))
        packets = Packets(settings, state, link, loaders)
        stack.callback(packets.close)
        packets.open()
        life.drop(settings.boot_user, CAP_NET_BIND_SERVICE, CAP_NET_RAW)
        stack.push_async_callback(link.close)
        runner = asyncio.create_task(link.run())
        stack.callback(runner.cancel)
        apps = make_apps(
            state,
            link,
            templates=read_templates(),
            loaders=loaders,
            https_port=settings.https_port,
            download_bytes_s=settings.http_mib_s << 20,
        )
        packets.on_lapse = apps.wakeups.wake_all
        most = settings.http_connections
        stack.push_async_callback(webs.close)
        http = Listener(apps.http, connections=most, quick=apps.quick)
        await webs.start(http, Listener(apps.https, connections=most, tls=tls))
        packets.on_networks = webs.adjust
        collector.relax()
        life.ready()
        log.info("serving %s", ", ".join(f"{n.name} ({n.interface}, {n.server})" for n in settings.networks))
        await life.stop.wait()
        apps.wakeups.wake_all()


class Packets:
    """The UDP services of every network, fed with what control pushes."""

    def __init__(self, settings: Settings, state: State, link: Link, loaders: LoaderTree) -> None:
        self._settings, self._state, self._link, self._loaders = settings, state, link, loaders
        self._segments: dict[str, Segment] = {}
        self.on_lapse: Callable[[], None] | None = None
        self.on_networks: Callable[[list[str]], Coroutine[Any, Any, None]] | None = None
        self._adjusting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._good = state.standing.good()

    def open(self) -> None:
        """Open every socket; MachineError says what stands in the way."""
        for networks in by_interface(self._settings.networks).values():
            self._open(networks)
        self._state.listen(self._changed)
        self._link.on_release = self._release
        self._stand()
        self._feed(Change(tuple(self._state.nodes.values()), (), whole=True))

    @property
    def _dhcp(self) -> list[DhcpServer]:
        return [segment.dhcp for segment in self._segments.values()]

    def _open(self, networks: tuple[Network, ...]) -> None:
        segment = Segment(networks, self._settings, self._state, self._link, self._loaders, self._event)
        segment.open()
        self._segments[networks[0].interface] = segment

    def _reconcile(self) -> None:
        """Networks as control says they are now: those that changed are closed and opened anew."""
        wanted = by_interface(self._state.networks)
        for interface, segment in list(self._segments.items()):
            if wanted.get(interface) != segment.networks:
                del self._segments[interface]
                segment.close()
        for interface, networks in wanted.items():
            if interface in self._segments:
                continue
            try:
                self._open(networks)
            except BaremetalError as exc:
                detail = f"{exc.brief}; {exc.fix}" if exc.fix else exc.brief
                body = {"service": f"network:{networks[0].name}", "detail": f"cannot be served: {detail}"}
                self._event({"kind": "serving", "node": None, "body": body})
            else:
                log.info("serving %s", ", ".join(network.name for network in networks))
        if self.on_networks is not None:
            served = [network for segment in self._segments.values() for network in segment.networks]
            self._adjusting = asyncio.get_running_loop().create_task(self.on_networks(addresses(served)))

    def _release(self, address: str) -> None:
        for server in self._dhcp:
            server.release(address)

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
        for segment in self._segments.values():
            segment.close()

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
        if change.whole and self._state.networks:
            served = {interface: segment.networks for interface, segment in self._segments.items()}
            if by_interface(self._state.networks) != served:
                self._reconcile()
                change = Change(tuple(self._state.nodes.values()), (), whole=True)
        self._feed(change)

    def _feed(self, change: Change) -> None:
        records = [entry.record for entry in change.nodes]
        for server in self._dhcp:
            if change.whole:
                server.update(records)
            else:
                server.change(records, change.gone)


if __name__ == "__main__":
    sys.exit(child.run("boot", serve))
