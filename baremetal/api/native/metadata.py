"""Metadata: layers as operators write them, and the document each node gets.

Secrets are shown as stars unless `reveal=1` is asked for.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, check_tenant, conductor, image_names, number, reply, who
from baremetal.errors import UsageError
from baremetal.model.layers import merge
from baremetal.model.metadata import batch_size, masked, secret_paths
from baremetal.store import metadata as stored
from baremetal.store import nodes
from baremetal.workflows import metadata, rollout, where

router = APIRouter(tags=["metadata"])


@router.get("/metadata/status", summary="Which generation each deployed node should have, has, and how it went")
async def status(request: Request) -> Response:
    """Nodes that are active or have reported; `where` filters."""
    con = conductor(request)
    condition = request.query_params.get("where")
    test = where.parse(condition, image_names(con)) if condition else None

    def query(conn: Connection) -> list[dict[str, Any]]:
        have = stored.generations(conn)
        found = [n for n in nodes.page(conn, limit=None) if n.state == "active" or n.config.get("outcome")]
        return [_status(node, have.get(node.id, (0, ""))[0]) for node in found if test is None or test(node)]

    return reply({"nodes": await con.store.fetch(query)})


@router.get("/metadata/{layer}", summary="Values of a layer without a name (defaults, site)")
async def get_plain(layer: str, request: Request) -> Response:
    """defaults or site."""
    return _get(request, layer, "")


@router.get("/metadata/{layer}/{name}", summary="Values of a role's or node's layer")
async def get_named(layer: str, name: str, request: Request) -> Response:
    """role or node."""
    return _get(request, layer, name)


@router.put("/metadata/{layer}", summary="Merge into (or replace) defaults or site")
async def put_plain(layer: str, request: Request) -> Response:
    """Every node's document follows; with `canary` or `batch` in stages."""
    return reply(await _put(request, layer, ""))


@router.put("/metadata/{layer}/{name}", summary="Merge into (or replace) a role's or node's layer")
async def put_named(layer: str, name: str, request: Request) -> Response:
    """The documents of its nodes follow; with `canary` or `batch` in stages."""
    return reply(await _put(request, layer, name))


@router.get("/nodes/{ref}/metadata", summary="The node's document, its layers, and what it has applied")
async def get_node(ref: str, request: Request) -> Response:
    """As the node's agent gets it, secrets masked."""
    con = conductor(request)
    return reply(await con.store.fetch(lambda c: _of_node(c, request, ref)))


@router.put("/nodes/{ref}/metadata", summary="Merge into (or replace) the node's own layer")
async def put_node(ref: str, request: Request) -> Response:
    """The held request of the node's agent returns at once."""
    con, body = conductor(request), await body_of(request)
    check_tenant(request, con.store.read(lambda c: nodes.get(c, ref)), metadata=body.get("values"))
    told = await _put(request, "node", ref)
    if "rollout" in told:
        return reply(told)
    return await get_node(ref, request)


@router.get("/nodes/{ref}/metadata/generations", summary="The node's last documents by generation, secrets masked")
async def get_generations(ref: str, request: Request) -> Response:
    """Ten are kept."""
    con = conductor(request)

    def query(conn: Connection) -> list[dict[str, Any]]:
        node = nodes.get(conn, ref)
        hide = _hidden(conn, request, metadata.layers_of(conn, con.world.metadata, node))
        past = stored.past_documents(conn, con.world.metadata, node.id)
        return [{"generation": g, "at": at, "values": hide(values)} for g, (at, values) in past.items()]

    return reply({"generations": await con.store.fetch(query)})


def _status(node: Any, wanted: int) -> dict[str, Any]:
    config = node.config
    failed = [f"{s.get('phase')}.d/{s.get('name')}" for s in config.get("scripts") or []]
    fault = config.get("fault") or {}
    return {
        "node": node.name,
        "wanted": wanted,
        "tried": config.get("generation") or 0,
        "applied": config.get("applied") or 0,
        "outcome": config.get("outcome") or "",
        "at": config.get("at"),
        "why": fault.get("brief") or "",
        "where": failed[0] if failed else "",
        "drift": config.get("drift") or [],
    }


def _of_node(conn: Connection, request: Request, ref: str) -> dict[str, Any]:
    con = conductor(request)
    node = nodes.get(conn, ref)
    doc = stored.get_document(conn, con.world.metadata, node.id)
    layers = metadata.layers_of(conn, con.world.metadata, node)
    hide = _hidden(conn, request, layers)
    document = json.loads(doc.text) if doc else None
    if document:
        document["values"] = hide(document["values"])
        document["deployments"] = hide({"deployments": document["deployments"]})["deployments"]
    applied = {k: node.config.get(k) for k in ("generation", "applied", "outcome", "at", "seconds")}
    return {
        "generation": doc.generation if doc else None,
        "document": document,
        "signature": doc.signature if doc else None,
        "applied": applied if node.config else None,
        "layers": {name: hide(values) for name, values in layers.items()},
    }


def _hidden(conn: Connection, request: Request, layers: dict[str, dict[str, Any]]) -> Any:
    """Puts stars in the place of secrets, unless they are asked for."""
    if request.query_params.get("reveal") in ("1", "true"):
        return lambda values: values
    paths = set(secret_paths(merge(layers.values())))
    return lambda values: masked(values, paths)


def _get(request: Request, layer: str, name: str) -> Response:
    con = conductor(request)
    metadata.check_layer(layer, name)

    def query(conn: Connection) -> dict[str, Any]:
        key = metadata.key_of(conn, layer, name)
        values, at = stored.get_layer(conn, con.world.metadata, layer, key)
        shown = _hidden(conn, request, {layer: values})(values)
        return {"layer": layer, "name": name, "values": shown, "updated_at": at}

    return reply(con.store.read(query))


async def _put(request: Request, layer: str, name: str) -> dict[str, Any]:
    con = conductor(request)
    body = await body_of(request)
    values = body.get("values")
    if not isinstance(values, dict):
        raise UsageError('metadata expects {"values": {...}}')
    why = str(body.get("why", ""))[:500]
    change = metadata.Change(layer, name, values, str(body.get("mode", "merge")), who(request), why)
    if body.get("canary") or body.get("batch"):
        return await _staged(request, change, body)
    now = con.clock.now()
    done = await con.write(lambda c: metadata.set_layer(c, con.world.metadata, con.signer, change, now))
    con.publish(done.ids)
    return changed_json(layer, name, done)


def changed_json(layer: str, name: str, done: metadata.Changed) -> dict[str, Any]:
    """What a change of a layer came to."""
    told = [{"node": node.name, "generation": generation} for node, generation in done.nodes]
    return {"layer": layer, "name": name, "values": masked(done.values, set()), "nodes_changed": told}


async def _staged(request: Request, change: metadata.Change, body: dict[str, Any]) -> dict[str, Any]:
    con = conductor(request)
    now = con.clock.now()
    canary, batch = _whole(body, "canary", 0), str(body.get("batch") or "100%")
    patience = body.get("patience_s", rollout.PATIENCE_S)
    if isinstance(patience, bool) or not isinstance(patience, (int, float)) or not 1 <= patience <= 86400:
        raise UsageError(f"patience_s is 1 to 86400 seconds, not {patience!r}")

    def write(conn: Connection) -> tuple[dict[str, Any], list[str]]:
        concerned = metadata.touched(conn, change.layer, metadata.key_of(conn, change.layer, change.name))
        pace = rollout.Pace(canary, batch_size(batch, len(concerned)), float(patience))
        begun = rollout.start(conn, con.world.metadata, con.signer, change, pace, now)
        return rollout.describe(conn, begun, now), list(begun.given)

    doc, given = await con.write(write)
    con.publish(given)
    con.rollouts.began()
    return {"rollout": doc}


def _whole(body: dict[str, Any], key: str, default: int) -> int:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100_000:
        raise UsageError(f"{key} is a number of nodes, not {value!r}")
    return value


def limit_of(request: Request) -> int:
    """How many entries of a history."""
    return number(request, "limit", 50, 500) or 50
