"""Provisioning networks and the addresses given out there."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, conductor, reply
from baremetal.errors import NotFound, Refused, UsageError
from baremetal.model.network import Network
from baremetal.store import nodes, ports, wire_seen
from baremetal.workflows.conductor import Conductor
from baremetal.workflows.netbook import NetBook
from baremetal.workflows.snapshot import _plain as plain

router = APIRouter(tags=["networks"])


@router.get("/networks", summary="Provisioning networks")
async def networks(request: Request) -> Response:
    """Of the configuration, and added ones."""
    return reply({"networks": [_doc(network) for network in conductor(request).world.site.networks]})


@router.get("/networks/{name}", summary="One provisioning network")
async def network(name: str, request: Request) -> Response:
    """404 when there is none."""
    for found in conductor(request).world.site.networks:
        if found.name == name:
            return reply(_doc(found))
    raise NotFound(f"there is no network {name!r}", fix="baremetal network list")


@router.post("/networks", summary="Serve another network from now on")
async def add(request: Request) -> Response:
    """The body is a [[network]] table as JSON (docs/reference/settings.md); 201 with the network as it is served."""
    book = _book(conductor(request))
    return reply(_doc(book.add(await body_of(request))), 201)


@router.delete("/networks/{name}", summary="Serve an added network no longer")
async def remove(name: str, request: Request) -> Response:
    """409 for one of the configuration file."""
    _book(conductor(request)).remove(name)
    return Response(status_code=204)


@router.get("/leases", summary="Addresses given by our DHCP server")
async def leases(request: Request) -> Response:
    """By address, with the node that has the MAC."""
    con = conductor(request)

    def query(conn: Connection) -> list[dict[str, Any]]:
        names = {node.id: node.name for node in nodes.page(conn, limit=None)}
        found = wire_seen.all_leases(conn)
        return [{**lease, "node": names.get(ports.owner(conn, lease["mac"]) or "")} for lease in found]

    return reply({"leases": await con.store.fetch(query)})


@router.delete("/leases/{address}", summary="Take an address back")
async def release(address: str, request: Request) -> Response:
    """The machine that has it is refused when it renews. 404 when nobody has it, 409 while no boot plane is there."""
    con = conductor(request)
    try:
        wanted = str(ipaddress.IPv4Address(address))
    except ValueError:
        raise UsageError(f"{address[:40]!r} is no IPv4 address") from None
    if con.release_address is None or not con.planes.get("boot", {}).get("connected"):
        raise Refused("no boot plane is connected, so nobody can take an address back", fix="baremetal status")
    if not await con.write(lambda conn: wire_seen.drop_lease(conn, wanted)):
        raise NotFound(f"nobody has the address {wanted}", fix="baremetal network leases")
    con.release_address(wanted)
    return Response(status_code=204)


def _book(con: Conductor) -> NetBook:
    if con.netbook is None:
        raise Refused("networks cannot be changed here: no boot plane belongs to this server")
    return con.netbook


def _doc(network: Network) -> dict[str, Any]:
    return dict(plain(dataclasses.asdict(network)))
