"""`baremetal bmc scan`: what is out there."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from baremetal.cli import bmccall as call
from baremetal.errors import EXIT_FAILED, EXIT_OK, UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb to `baremetal bmc`."""
    app.command()(scan)


def scan(
    where: Annotated[
        list[str] | None, typer.Argument(help="Addresses, networks (10.0.0.0/23), ranges, files; as --hosts.")
    ] = None,
    hosts: Annotated[
        list[str] | None, typer.Option("--hosts", "-H", help="Addresses, networks, ranges, files.")
    ] = None,
    ssdp: Annotated[
        str | None, typer.Option("--ssdp", help="Search by multicast from this address of ours, for Redfish services.")
    ] = None,
    silent: Annotated[bool, typer.Option("--silent", help="A line for addresses that do not answer, too.")] = False,
    port: Annotated[int, typer.Option("--port", help="UDP port of RMCP.")] = 623,
    redfish_port: Annotated[int, typer.Option("--redfish-port", help="TCP port of Redfish.")] = 443,
    redfish: Annotated[bool, typer.Option("--redfish/--no-redfish", help="Ask for the Redfish root, too.")] = True,
    rate: Annotated[int, typer.Option("--rate", help="Datagrams a second.")] = 4000,
    _json: call.JsonLines = False,
) -> None:
    """Find BMCs without credentials: RMCP and Redfish root; names twins by UUID."""
    from baremetal.bmc import scan as scanner
    from baremetal.bmc.hosts import expand

    hosts = [*(where or []), *(hosts or [])]
    if not hosts and ssdp is None:
        fix = "baremetal bmc scan 10.0.0.0/23, or --ssdp ADDRESS for a multicast search"
        raise UsageError("what shall be scanned?", fix=fix)
    heard = asyncio.run(scanner.ssdp(ssdp)) if ssdp else []
    targets = expand([*hosts, *heard]) if hosts or heard else []
    for target in targets:
        if target.error:
            call.show({"host": target.host, "error": {"code": target.error.code, "brief": target.error.brief}}, False)
    names = [target.url.host for target in targets if target.url]
    counts = {"ipmi": 0, "redfish": 0, "answered": 0}

    async def work() -> None:
        async for found in scanner.scan(names, port=port, redfish_port=redfish_port, rate=rate, redfish=redfish):
            answered = bool(found.ipmi or found.redfish)
            counts["ipmi"] += bool(found.ipmi)
            counts["redfish"] += bool(found.redfish)
            counts["answered"] += answered
            if answered or silent:
                call.show(found.to_json(), False)

    asyncio.run(call.telling(work(), lambda: f"{counts['answered']} answered; {len(names)} addresses are asked"))
    words = (
        f"{len(names)} addresses: {counts['answered']} answered (IPMI {counts['ipmi']}, Redfish {counts['redfish']})"
    )
    sys.stderr.write(f"{words}; nothing was logged in to\n")
    raise typer.Exit(EXIT_OK if counts["answered"] else EXIT_FAILED)
