"""What an IPMI driver needs of a session: send one command, get one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from baremetal.bmc.faults import BmcUnreachable
from baremetal.bmc.quirks import Quirks

# Network functions (IPMI 2.0 table 5-1).
CHASSIS = 0x00
SENSOR = 0x04
APP = 0x06
STORAGE = 0x0A
TRANSPORT = 0x0C


@dataclass(frozen=True)
class Answer:
    """The answer to one command: completion code and data."""

    code: int
    data: bytes


@dataclass(frozen=True)
class Login:
    """How to log in. `user` and `password` are bytes as the wire carries them; nothing here prints them.

    `cipher` None: try suite 17, then 3. `privilege`: administrator, operator or
    user; None: administrator, stepping down to operator when refused.
    """

    host: str
    port: int
    user: bytes
    password: bytes
    kg: bytes | None = None
    cipher: int | None = None
    privilege: str | None = None
    timeout_s: float = 20.0

    def __repr__(self) -> str:
        return f"Login({self.host}:{self.port})"


class IpmiLink(Protocol):
    """An authenticated session that logs in by itself, and again when it was lost. `gap_s`: least between commands."""

    gap_s: float

    @property
    def cipher(self) -> int | None:
        """The cipher suite in use, None before the login."""
        ...

    async def command(self, netfn: int, command: int, data: bytes = b"", lun: int = 0) -> Answer:
        """One command. Raises BmcError when no answer can be had; a completion code is an answer."""
        ...

    async def close(self) -> None: ...


class IpmiBmc(Protocol):
    """What the readers of FRU, SDR, SEL and accounts need of the driver."""

    link: IpmiLink
    host: str
    quirks: Quirks

    async def ask(
        self, what: str, netfn: int, command: int, data: bytes = b"", *, least: int = 0, lun: int = 0
    ) -> bytes:
        """One command that must succeed and answer at least so many bytes."""
        ...


def silent(host: str, seconds: float, detail: str = "") -> BmcUnreachable:
    """Nothing at all came back."""
    return BmcUnreachable(
        f"{host}: BMC silent for {seconds:.0f} s",
        detail=detail or "no answer to RMCP on this port",
        fix="check address, cable and BMC VLAN; is IPMI over LAN enabled? then: baremetal bmc scan --hosts "
        + host.split(":")[0],
        cause="silent",
        stage="discovery",
    )
