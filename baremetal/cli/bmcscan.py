"""`baremetal bmc scan` and `baremetal bmc audit`: what is out there, and how dangerous it is."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import bmccall as call
from baremetal.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from baremetal.bmc.base import BmcDriver


def register(app: typer.Typer) -> None:
    """Adds the verbs to `baremetal bmc`."""
    app.command()(scan)
    app.command()(audit)


def scan(
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
) -> None:
    """Find BMCs without credentials: RMCP and Redfish root; names twins by UUID."""
    from baremetal.bmc import scan as scanner
    from baremetal.bmc.hosts import expand

    if not hosts and ssdp is None:
        raise UsageError("what shall be scanned?", fix="--hosts 10.0.0.0/23, or --ssdp ADDRESS for a multicast search")
    heard = asyncio.run(scanner.ssdp(ssdp)) if ssdp else []
    targets = expand([*(hosts or []), *heard]) if hosts or heard else []
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

    asyncio.run(work())
    words = (
        f"{len(names)} addresses: {counts['answered']} answered (IPMI {counts['ipmi']}, Redfish {counts['redfish']})"
    )
    sys.stderr.write(f"{words}; nothing was logged in to\n")
    raise typer.Exit(EXIT_OK if counts["answered"] else EXIT_FAILED)


def audit(
    hosts: call.Hosts,
    factory_file: Annotated[
        Path | None,
        typer.Option(
            "--factory-file", help="Lines `user password` to try, two at most a BMC: may count as failed logins."
        ),
    ] = None,
    user: call.User = "",
    password_env: call.PasswordEnv = None,
    password_file: call.PasswordFile = None,
    kg_file: call.KgFile = None,
    driver: call.Driver = None,
    scheme: call.Scheme = "ipmi",
    timeout: call.Timeout = 60.0,
    at_once: call.AtOnce = None,
    plain: call.Plain = False,
) -> None:
    """Cipher 0, anonymous and nameless users, factory passwords, weak suites, TLS: findings with their fix."""
    from baremetal.bmc.audit import audit as examine

    asked = call.Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    pairs = factory_pairs(factory_file) if factory_file else []
    urls = {target.host: target.url for target in asked.targets}

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        url = urls[bmc.name]  # type: ignore[attr-defined]
        assert url is not None
        return await examine(url, bmc, factory=pairs)

    asked.run(ask)


def factory_pairs(path: Path) -> list[tuple[str, str]]:
    """`user password` a line; a user alone means an empty password."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read", detail=exc.strerror or str(exc)) from exc
    pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    return [(pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs]
