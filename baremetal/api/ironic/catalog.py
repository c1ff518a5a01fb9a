"""Versions, drivers, conductors, and lists that are empty here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from baremetal.api.http import Reply
from baremetal.api.ironic import fields, version
from baremetal.api.ironic.common import HOST, Asked, answer, links, page_of, route
from baremetal.api.ironic.drivers import DRIVERS
from baremetal.api.ironic.version import Refusal
from baremetal.store.tables import nodes as table

RESOURCES = {  # path: since
    "chassis": 1,
    "nodes": 1,
    "ports": 1,
    "drivers": 1,
    "lookup": 22,
    "heartbeat": 22,
    "portgroups": 23,
    "volume": 32,
    "conductors": 49,
    "allocations": 52,
    "deploy_templates": 55,
    "shards": 82,
    "runbooks": 92,
    "inspection_rules": 96,
}
EMPTY = {"chassis": 1, "portgroups": 24, "inspection_rules": 96}


def _v1(base: str) -> dict[str, Any]:
    return {
        "id": "v1",
        "links": [{"href": f"{base}/v1/", "rel": "self"}],
        "status": "CURRENT",
        "min_version": version.text_of(version.MINIMUM),
        "version": version.text_of(version.MAXIMUM),
    }


@route("GET", "/:versions")
async def versions(asked: Asked) -> Reply:
    """Version discovery: before authentication."""
    doc = {
        "name": "OpenStack Ironic API",
        "description": "baremetal, speaking Ironic's API",
        "default_version": _v1(asked.base),
        "versions": [_v1(asked.base)],
    }
    return answer(asked, doc)


@route("GET", "/")
async def v1(asked: Asked) -> Reply:
    """What there is."""
    doc: dict[str, Any] = {
        "id": "v1",
        "version": _v1(asked.base),
        "links": [
            {"href": f"{asked.base}/v1/", "rel": "self"},
            {"href": f"{asked.base}/api/openapi.json", "rel": "describedby", "type": "application/json"},
        ],
        "media_types": {"base": "application/json", "type": "application/vnd.openstack.ironic.v1+json"},
    }
    doc |= {name: links(asked.base, f"{name}/") for name, since in RESOURCES.items() if since <= asked.minor}
    return answer(asked, doc)


@route("GET", "/drivers")
async def drivers(asked: Asked) -> Reply:
    """What BMCs we speak to."""
    asked.known_query("type", "detail", "fields")
    detail = bool(asked.flag("detail"))
    found = [] if asked.query.get("type") == "classic" else [_driver(name, asked, detail) for name in DRIVERS]
    return answer(asked, {"drivers": found})


@route("GET", "/drivers/{}")
async def driver(asked: Asked, name: str) -> Reply:
    """One of them."""
    return answer(asked, _driver(_known(name), asked, True))


@route("GET", "/drivers/{}/properties")
async def driver_properties(asked: Asked, name: str) -> Reply:
    """Keys of driver_info."""
    prefix = {"ipmi": "ipmi", "redfish": "redfish"}.get(_known(name))
    words = {"address": "Required.", "username": "Optional.", "password": "Optional; kept sealed.", "port": "Optional."}
    return answer(asked, {f"{prefix}_{k}": f"{k} of the BMC. {v}" for k, v in words.items()} if prefix else {})


@route("GET", "/drivers/{}/vendor_passthru/methods")
async def driver_passthru(asked: Asked, name: str) -> Reply:
    """None."""
    _known(name)
    return answer(asked, {})


@route("GET", "/drivers/{}/raid/logical_disk_properties", since=12)
async def driver_raid(asked: Asked, name: str) -> Reply:
    """Hardware RAID is not configured here."""
    _known(name)
    return answer(asked, {})


def _known(name: str) -> str:
    if name not in DRIVERS:
        raise Refusal(404, f"Could not find the following driver(s) or hardware type(s): {name[:80]}.")
    return name


def _driver(name: str, asked: Asked, detail: bool) -> dict[str, Any]:
    doc: dict[str, Any] = {"name": name, "hosts": [HOST], "links": links(asked.base, f"drivers/{name}")}
    if asked.minor >= 14:
        doc["properties"] = links(asked.base, f"drivers/{name}/properties")
    if asked.minor >= 30:
        doc["type"] = "dynamic"
    if detail and asked.minor >= 30:
        for key, value in fields.interfaces_of(name).items():
            if fields.SINCE.get(key, 1) <= asked.minor:
                kind = key.removesuffix("_interface")
                doc[f"default_{kind}_interface"] = value
                doc[f"enabled_{kind}_interfaces"] = [value]
    return doc


@route("GET", "/conductors", since=49)
async def conductors(asked: Asked) -> Reply:
    """This server."""
    return answer(asked, page_of([_conductor(asked, bool(asked.flag("detail")))], asked, "conductors", "hostname"))


@route("GET", "/conductors/{}", since=49)
async def conductor(asked: Asked, name: str) -> Reply:
    """This server."""
    if name != HOST:
        raise Refusal(404, f"Conductor {name[:80]} cannot be found.")
    return answer(asked, _conductor(asked, True))


def _conductor(asked: Asked, detail: bool) -> dict[str, Any]:
    doc: dict[str, Any] = {"hostname": HOST, "conductor_group": "", "alive": True}
    if detail:
        now = asked.con.clock.now()
        doc |= {"created_at": fields.when(asked.con.started_at), "updated_at": fields.when(now)}
        doc["drivers"] = list(DRIVERS)
    return doc | {"links": links(asked.base, f"conductors/{HOST}")}


@route("GET", "/volume", since=32)
async def volume(asked: Asked) -> Reply:
    """Where volumes would be."""
    doc: dict[str, Any] = {"links": links(asked.base, "volume/")}
    for name in ("connectors", "targets"):
        doc[name] = links(asked.base, f"volume/{name}")
    return answer(asked, doc)


@route("GET", "/shards", since=82)
async def shards(asked: Asked) -> Reply:
    """How many nodes each shard has."""
    rows = asked.con.store.read(lambda c: c.execute(sa.select(table.c.extra)).all())
    found: dict[str, int] = {}
    for row in rows:
        name = str((row[0].get("ironic") or {}).get("shard"))
        found[name] = found.get(name, 0) + 1
    return answer(asked, {"shards": [{"name": name, "count": count} for name, count in sorted(found.items())]})


def _empty(path: str, name: str, since: int) -> None:
    """A list that is empty here, and whose members therefore are nowhere."""

    @route("GET", f"/{path}", since=since)
    async def nothing(asked: Asked) -> Reply:
        return answer(asked, {name: []})

    @route("GET", f"/{path}/{{}}", since=since)
    async def nobody(asked: Asked, ident: str) -> Reply:
        if ident == "detail":
            return answer(asked, {name: []})
        raise Refusal(404, f"{path} {ident[:80]} could not be found.")

    @route("POST", f"/{path}", since=since)
    async def refused(asked: Asked) -> Reply:
        raise Refusal(400, f"{path} cannot be made here: see docs/explanation/ironic-api.md")


for _path, _since in EMPTY.items():
    _empty(_path, _path, _since)
_empty("volume/connectors", "connectors", 32)
_empty("volume/targets", "targets", 32)
