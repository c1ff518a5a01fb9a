"""Metadata: layers as operators write them, and the document each node gets."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, conductor, reply
from baremetal.errors import UsageError
from baremetal.store import metadata as stored
from baremetal.store import nodes
from baremetal.workflows import metadata

router = APIRouter(tags=["metadata"])


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
    """Every node's document follows."""
    return await _put(request, layer, "")


@router.put("/metadata/{layer}/{name}", summary="Merge into (or replace) a role's or node's layer")
async def put_named(layer: str, name: str, request: Request) -> Response:
    """The documents of its nodes follow."""
    return await _put(request, layer, name)


@router.get("/nodes/{ref}/metadata", summary="The node's document, its layers, and what it has applied")
async def get_node(ref: str, request: Request) -> Response:
    """As the node's agent gets it."""
    con = conductor(request)

    def query(conn: Connection) -> dict[str, Any]:
        node = nodes.get(conn, ref)
        doc = stored.get_document(conn, con.world.metadata, node.id)
        layers = metadata.layers_of(conn, con.world.metadata, node)
        applied = {k: node.config.get(k) for k in ("generation", "outcome", "at", "seconds")} if node.config else None
        return {
            "generation": doc.generation if doc else None,
            "document": json.loads(doc.text) if doc else None,
            "signature": doc.signature if doc else None,
            "applied": applied,
            "layers": layers,
        }

    return reply(await con.store.fetch(query))


@router.put("/nodes/{ref}/metadata", summary="Merge into (or replace) the node's own layer")
async def put_node(ref: str, request: Request) -> Response:
    """The held request of the node's agent returns at once."""
    await _put(request, "node", ref)
    return await get_node(ref, request)


def _get(request: Request, layer: str, name: str) -> Response:
    con = conductor(request)
    metadata.check_layer(layer, name)

    def query(conn: Connection) -> tuple[dict[str, Any], float]:
        key = nodes.get(conn, name).id if layer == "node" else name
        return stored.get_layer(conn, con.world.metadata, layer, key)

    values, at = con.store.read(query)
    return reply({"layer": layer, "name": name, "values": values, "updated_at": at})


async def _put(request: Request, layer: str, name: str) -> Response:
    con = conductor(request)
    body = await body_of(request)
    values, mode = body.get("values"), str(body.get("mode", "merge"))
    if not isinstance(values, dict):
        raise UsageError('metadata expects {"values": {...}}')
    now = con.clock.now()

    def write(conn: Connection) -> tuple[dict[str, Any], list[tuple[str, int]], list[str]]:
        new, changed = metadata.set_layer(conn, con.world.metadata, con.signer, layer, name, values, mode, now)
        return new, changed, [nodes.get(conn, node).id for node, _ in changed]

    new, changed, touched = await con.write(write)
    con.publisher.refresh(touched)
    told = [{"node": node, "generation": generation} for node, generation in changed]
    return reply({"layer": layer, "name": name, "values": new, "nodes_changed": told})
