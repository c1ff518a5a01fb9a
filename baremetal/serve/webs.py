"""The HTTP and HTTPS sockets of every server address; addresses may come and go while it serves."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from baremetal.config import Settings
from baremetal.errors import BaremetalError
from baremetal.model.network import Network
from baremetal.serve.http import Listener
from baremetal.serve.listen import bind

log = logging.getLogger(__name__)


def addresses(networks: Iterable[Network]) -> list[str]:
    """Where we are reached: once each, in order."""
    return list(dict.fromkeys(network.server for network in networks))


@dataclass
class Webs:
    """`open` while still root, then `start`, then `adjust` whenever networks have changed."""

    settings: Settings
    tls: ssl.SSLContext
    _plain: dict[str, socket.socket] = field(default_factory=dict)
    _secure: dict[str, socket.socket] = field(default_factory=dict)
    _http: Listener | None = None
    _https: Listener | None = None

    def open(self, where: Iterable[str]) -> None:
        """Bind; MachineError says who has the port."""
        for address in where:
            self._plain[address] = bind(address, self.settings.http_port)
            self._secure[address] = bind(address, self.settings.https_port)

    async def start(self, http: Listener, https: Listener) -> None:
        self._http, self._https = http, https
        await http.start(list(self._plain.values()))
        await https.start(list(self._secure.values()))

    async def close(self) -> None:
        for listener in (self._http, self._https):
            if listener is not None:
                await listener.close()

    async def adjust(self, where: Iterable[str]) -> None:
        """Serve these addresses and no others."""
        assert self._http is not None
        assert self._https is not None
        wanted = set(where)
        for address in self._plain.keys() - wanted:
            await self._http.drop(self._plain.pop(address))
            await self._https.drop(self._secure.pop(address))
        for address in wanted - self._plain.keys():
            try:
                self.open([address])
            except BaremetalError as exc:
                self._plain.pop(address, None)
                log.error("%s: %s", exc.brief, exc.fix)
                continue
            # The certificate may name the new address by now; we may be a user who cannot read its key.
            with contextlib.suppress(OSError, ssl.SSLError):
                directory = self.settings.tls_dir
                self.tls.load_cert_chain(directory / "server.pem", directory / "server.key")
            await self._http.add(self._plain[address])
            await self._https.add(self._secure[address])
