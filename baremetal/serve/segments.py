"""The UDP services of one interface: DHCP for its own subnet and those that relays bring, TFTP, router advertisements.

segment = Segment(networks, settings, state, link, loaders, on_event)
segment.open()       # MachineError says what stands in the way
segment.close()
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from baremetal.boot.decide import Urls, decide
from baremetal.bootplane.link import Link
from baremetal.bootplane.state import State
from baremetal.config import Settings
from baremetal.errors import MachineError
from baremetal.model.network import Network
from baremetal.serve import ports
from baremetal.serve.dhcp import DhcpServer
from baremetal.serve.grubtree import GrubTree
from baremetal.serve.loaders import LoaderTree, read_templates
from baremetal.serve.ra import RouterAdvertiser
from baremetal.serve.sockets import PortTaken
from baremetal.serve.tftp import TftpServer

OnEvent = Callable[[Mapping[str, Any]], None]


def by_interface(networks: Iterable[Network]) -> dict[str, tuple[Network, ...]]:
    """The networks of each interface, its own subnet first. Relayed ones without one are left out."""
    found: dict[str, list[Network]] = {}
    for network in sorted(networks, key=lambda n: n.relayed):
        if not network.relayed or network.interface in found:
            found.setdefault(network.interface, []).append(network)
    return {interface: tuple(group) for interface, group in found.items()}


class Segment:
    """`networks`: the link's own first."""

    def __init__(
        self,
        networks: tuple[Network, ...],
        settings: Settings,
        state: State,
        link: Link,
        loaders: LoaderTree,
        on_event: OnEvent,
    ) -> None:
        self.networks, self._settings, self._event = networks, settings, on_event
        own = networks[0]
        urls = Urls(http=f"http://{own.server}:{settings.http_port}", loaders=loaders.table)
        self.dhcp = DhcpServer(
            networks,
            functools.partial(decide, urls=urls),
            on_event,
            settings.boot_dir / f"{own.name}.leases",
            port=settings.dhcp_port,
            boot_port=settings.proxy_dhcp_port,
        )
        agents = f"https://{own.server}:{settings.https_port}"
        tree = GrubTree(loaders, state, link, read_templates(), agents)
        self._tftp = TftpServer(own.server, settings.tftp_port, tree, on_event, interface=own.interface)
        self._closers: list[Callable[[], None]] = []

    def open(self) -> None:
        """Open every socket; on failure none stays open."""
        loop, own = asyncio.get_running_loop(), self.networks[0]
        try:
            self._start(self.dhcp.start, self.dhcp.close, loop, self._settings.dhcp_port)
            self._start(self._tftp.start, self._tftp.close, loop, self._settings.tftp_port)
            if own.ra_prefix:
                advertiser = RouterAdvertiser(own, self._event)
                advertiser.start(loop)
                self._closers.append(advertiser.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for close in reversed(self._closers):
            close()
        self._closers.clear()

    def _start(
        self,
        start: Callable[[asyncio.AbstractEventLoop], None],
        close: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        port: int,
    ) -> None:
        address = self.networks[0].server
        self._closers.append(close)
        try:
            start(loop)
        except PortTaken as exc:
            if ports.holder("udp", port) is None:
                raise
            raise ports.taken("udp", address, port) from exc
        except OSError as exc:
            raise MachineError(f"cannot serve UDP port {port} on {address}", detail=str(exc)) from exc
