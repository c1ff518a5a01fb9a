"""Opens a machine's serial console: a session of its own, so that power commands go on beside it."""

from __future__ import annotations

from dataclasses import replace

from baremetal.bmc.base import ConsoleStream
from baremetal.bmc.drivers import ipmi_login
from baremetal.bmc.faults import BmcError, BmcUnsupported
from baremetal.bmc.rmcp import RmcpLink
from baremetal.bmc.sol import SolConsole
from baremetal.bmc.url import BmcUrl
from baremetal.secrets import Secret


async def open_console(url: BmcUrl, password: Secret, kg: Secret | None = None, *, take: bool = False) -> ConsoleStream:
    """The console of this BMC; `take` ends another's. BmcUnsupported for addresses without IPMI."""
    if url.scheme not in ("ipmi", "auto"):
        raise BmcUnsupported(f"{url.netloc}: no serial console over {url.scheme}", fix="give the BMC's ipmi:// address")
    options = {key: value for key, value in url.options.items() if key in ("cipher", "privilege", "timeout_s")}
    login = ipmi_login(replace(url, scheme="ipmi", options=options), password.reveal(), kg.reveal() if kg else None)
    console = SolConsole(RmcpLink(login))
    try:
        await console.open(take=take)
    except BmcError:
        await console.close()
        raise
    return console
