"""`baremetal network …`: provisioning networks, leases, machines nobody knows."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Annotated, Any
from urllib.parse import quote

import typer

from baremetal.cli import render
from baremetal.cli.client import Client
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, complete_networks, one_of
from baremetal.errors import NotFound, UsageError

app = typer.Typer(no_args_is_help=True, help="Provisioning networks, leases, and machines that no node has.")


def _interfaces(incomplete: str) -> list[str]:
    """This machine's, for the shell."""
    return sorted(name for _, name in socket.if_nameindex() if name.startswith(incomplete) and name != "lo")


Name = Annotated[str, typer.Argument(metavar="NETWORK", autocompletion=complete_networks)]


@app.command("list")
@listing
def list_(listed: Listed) -> None:
    """The networks that the server serves."""
    columns = ["name", "interface", "cidr", "server", "mode", "proxy", "relayed", "added"]
    empty = "no networks; see: baremetal network add --help"
    listed.show(Client.default().get("/api/networks"), "networks", columns, empty=empty)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """One network, and how much of its range is given out."""
    client = Client.default()
    network = client.get(f"/api/networks/{quote(name, safe='')}")
    if as_json:
        render.json_out(network)
        return
    held = [lease for lease in client.get("/api/leases")["leases"] if lease["network"] == name]
    first, last = (int(IPv4Address(network[key])) for key in ("range_first", "range_last"))
    render.fields({**network, "leases": f"{len(held)} of {last - first + 1} addresses"})


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="How the network is called.")],
    interface: Annotated[
        str, typer.Option("--interface", "-i", help="Where DHCP is served.", autocompletion=_interfaces)
    ],
    cidr: Annotated[str, typer.Option("--cidr", help="The subnet, like 10.0.0.0/24.")],
    server: Annotated[str, typer.Option("--server", help="Our address there.")],
    range_: Annotated[
        str, typer.Option("--range", help="Addresses to give out, first-last; default: the upper half.")
    ] = "",
    router: Annotated[str, typer.Option("--router", help="Default gateway handed out.")] = "",
    dns: Annotated[list[str] | None, typer.Option("--dns", help="Name server handed out; may repeat.")] = None,
    domain: Annotated[str, typer.Option("--domain", help="Domain name handed out.")] = "",
    lease_s: Annotated[int, typer.Option("--lease-s", help="Lease time in seconds.")] = 3600,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="known: enrolled machines only; discover: also record others; anybody.",
            autocompletion=one_of("known", "discover", "anybody"),
        ),
    ] = "known",
    proxy: Annotated[bool, typer.Option("--proxy", help="Boot answers only, beside a foreign DHCP server.")] = False,
    relayed: Annotated[bool, typer.Option("--relayed", help="Behind DHCP relays that send to --server.")] = False,
    ra_prefix: Annotated[str, typer.Option("--ra-prefix", help="A ULA /64 for router advertisements.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="DHCP option by name, ntp-server=10.0.0.1; may repeat.")
    ] = None,
    reserve: Annotated[
        list[str] | None,
        typer.Option("--reserve", help="MAC=ADDRESS, uuid:UUID=ADDRESS or circuit:PORT=ADDRESS; may repeat."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve another network from now on, without a restart.

    Only machines that are enrolled are answered, unless --mode says otherwise;
    other DHCP servers on the link are asked for first.
    """
    table: dict[str, Any] = {
        "name": name, "interface": interface, "cidr": cidr, "server": server, "range": range_, "router": router,
        "dns": dns, "domain": domain, "mode": mode, "proxy": proxy, "relayed": relayed, "ra_prefix": ra_prefix,
        "options": _pairs(option, "--option"), "reservations": _pairs(reserve, "--reserve"),
    }  # fmt: skip
    told = {key: value for key, value in table.items() if value} | {"lease_s": lease_s}
    made = Client.default().post("/api/networks", told)
    if as_json:
        render.json_out(made)
        return
    given = "no addresses (proxy)" if proxy else f"{made['range_first']}-{made['range_last']}"
    print(f"{name}: {made['cidr']} on {made['interface']}, {given}, {made['mode']} machines")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Serve an added network no longer. Those of the configuration file stay."""
    Client.default().delete(f"/api/networks/{quote(name, safe='')}")
    render.json_out({"removed": name}) if as_json else print(f"{name} is no longer served")


@app.command()
def release(
    which: Annotated[str, typer.Argument(metavar="ADDRESS|MAC|NODE", help="Whose address is taken back.")],
    as_json: Json = False,
) -> None:
    """Take a leased address back: somebody else may have it. The machine is refused when it renews."""
    client = Client.default()
    mac = which.lower().replace("-", ":")
    found = [
        lease["address"]
        for lease in client.get("/api/leases")["leases"]
        if which in (lease["address"], lease["node"]) or mac == lease["mac"]
    ]
    if not found:
        raise NotFound(f"{which} has no lease", fix="baremetal network leases")
    for address in found:
        client.delete(f"/api/leases/{address}")
        if not as_json:
            print(f"{address} is free")
    if as_json:
        render.json_out({"released": found})


@app.command()
@listing
def leases(listed: Listed) -> None:
    """Addresses given out."""

    def row(lease: Mapping[str, Any]) -> dict[str, Any]:
        return {"expires": render.clock(lease["expires"])}

    columns = ["address", "mac", "node", "network", "expires"]
    listed.show(Client.default().get("/api/leases"), "leases", columns, row=row, empty="no leases")


@app.command()
@listing
def unknown(listed: Listed) -> None:
    """Machines that asked for a boot and belong to no node."""

    def row(machine: Mapping[str, Any]) -> dict[str, Any]:
        return {"last": f"{render.ago(machine['last'])} ago"}

    columns = ["mac", "uuid", "arch", "loader", "network", "count", "last"]
    listed.show(Client.default().get("/api/unknown"), "machines", columns, row=row, empty="none seen")


def _pairs(words: list[str] | None, what: str) -> dict[str, str]:
    """NAME=VALUE words as they stand: a reservation's name has colons and dots in it."""
    doc = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{what} {word!r} is not NAME=VALUE")
        doc[name] = value
    return doc
