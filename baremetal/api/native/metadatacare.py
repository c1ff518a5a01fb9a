"""Metadata beside the layers: history and the way back, schemas, secrets, roll-outs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api.native.common import body_of, conductor, reply, who
from baremetal.api.native.metadata import changed_json, limit_of
from baremetal.errors import NotFound, Refused, UsageError
from baremetal.model.metadata import difference, masked
from baremetal.secrets import Secret
from baremetal.store import metadata as stored
from baremetal.store import nodes, schemas, secrets
from baremetal.workflows import compose, metadata, rollout

router = APIRouter(tags=["metadata"])
MAX_SECRET = 64 * 1024


@router.get("/metadata-history", summary="Who changed what, newest first")
async def history(request: Request) -> Response:
    """`node` (all its layers), or `layer` and `name`; values are masked unless reveal=1."""
    con = conductor(request)
    asked = request.query_params

    def query(conn: Connection) -> list[dict[str, Any]]:
        places = _places(conn, asked.get("node", ""), asked.get("layer", ""), asked.get("name", ""))
        found = stored.history(conn, con.world.metadata, places, limit_of(request) + 1)
        return [_change(conn, one, stored.values_before(conn, con.world.metadata, one)) for one in found][
            : limit_of(request)
        ]

    return reply({"changes": await con.store.fetch(query)})


@router.post("/metadata-rollback", summary="Make a layer what it was")
async def rollback(request: Request) -> Response:
    """{"layer", "name", "to": number of a change, or null: before the last one}."""
    con = conductor(request)
    body, now, by = await body_of(request), con.clock.now(), who(request)
    layer, name, to = str(body.get("layer", "")), str(body.get("name", "")), body.get("to")
    if to is not None and (isinstance(to, bool) or not isinstance(to, int)):
        raise UsageError(f"to: the number of a change, not {to!r}")
    sealer, signer = con.world.metadata, con.signer
    done = await con.write(lambda c: metadata.rollback(c, sealer, signer, layer, name, to, by, now))
    con.publish(done.ids)
    return reply(changed_json(layer, name, done))


@router.get("/metadata-schemas", summary="What values are allowed")
async def get_schemas(request: Request) -> Response:
    """JSON schemas of the site and of roles."""
    con = conductor(request)
    found = con.store.read(schemas.all_of)
    return reply({"schemas": [{"layer": layer, "name": n, "schema": s} for (layer, n), s in sorted(found.items())]})


@router.put("/metadata-schemas", summary="Set or drop a schema")
async def put_schema(request: Request) -> Response:
    """{"layer": site|role, "name", "schema": object, or null to drop it}."""
    con = conductor(request)
    body, now = await body_of(request), con.clock.now()
    layer, name, schema = str(body.get("layer", "")), str(body.get("name", "")), body.get("schema")
    sealer = con.world.metadata
    await con.write(lambda c: metadata.set_schema(c, sealer, layer, name, schema, now))
    return reply({"layer": layer, "name": name, "schema": schema})


@router.get("/metadata-secrets", summary="Names of secrets, never their values")
async def get_secrets(request: Request) -> Response:
    """Whose they are, and when they were set."""
    con = conductor(request)

    def query(conn: Connection) -> list[dict[str, Any]]:
        found = secrets.names(conn, compose.SECRET_PREFIX)
        names = {node.id: node.name for node in nodes.many(conn, [owner for owner, _, _ in found])}
        return [{"owner": names.get(owner, owner), "name": name, "updated_at": at} for owner, name, at in found]

    return reply({"secrets": await con.store.fetch(query)})


@router.put("/metadata-secrets", summary='Store or drop a secret for {"$secret": name}')
async def put_secret(request: Request) -> Response:
    """{"owner": site | role:NAME | a node, "name", "value": text, or null to drop it}."""
    con = conductor(request)
    body, now = await body_of(request), con.clock.now()
    name, value = str(body.get("name", "")), body.get("value")
    if not name or len(name) > 60 or (value is not None and (not isinstance(value, str) or len(value) > MAX_SECRET)):
        raise UsageError("a secret has a name of at most 60 characters and a text of at most 64 KiB")

    def write(conn: Connection) -> list[str]:
        sealer, owner = con.world.metadata, str(body.get("owner", ""))
        if owner != compose.SITE_OWNER and not owner.startswith("role:"):
            owner = nodes.get(conn, owner).id
        field = compose.SECRET_PREFIX + name
        if value is not None:
            secrets.put(conn, sealer, owner, field, Secret(value), now)
        elif not secrets.drop(conn, owner, field):
            raise NotFound(f"{body.get('owner')} has no secret {name!r}", fix="baremetal metadata secret list")
        concerned = nodes.page(conn, limit=None)
        composer = compose.Composer(conn, sealer, con.signer, now)
        try:
            return [node.id for node, _ in composer.refresh(concerned, lenient=value is not None)]
        except UsageError as exc:
            fix = "take the reference out of the values first: baremetal metadata unset"
            raise Refused("values refer to this secret", detail=exc.brief, fix=fix) from exc

    changed = await con.write(write)
    con.publish(changed)
    return reply({"owner": body.get("owner"), "name": name, "nodes_changed": len(changed)})


@router.get("/metadata-rollout", summary="The last roll-out, or the one of this number, node by node")
async def get_rollout(request: Request) -> Response:
    """`id` is optional."""
    con = conductor(request)
    now, sealer = con.clock.now(), con.world.metadata
    found = await con.store.fetch(lambda c: rollout.describe(c, rollout.find(c, sealer, _id(request)), now))
    return reply({"rollout": found})


@router.post("/metadata-rollout", summary="Resume or abort a roll-out")
async def post_rollout(request: Request) -> Response:
    """{"do": resume | abort, "id": optional}."""
    con = conductor(request)
    body, now, by = await body_of(request), con.clock.now(), who(request)
    what, asked = body.get("do"), body.get("id")
    if what not in ("resume", "abort"):
        raise UsageError(f"do: resume or abort, not {what!r}")

    def write(conn: Connection) -> tuple[dict[str, Any], list[str]]:
        changed: list[str] = []
        found = rollout.find(conn, con.world.metadata, asked if isinstance(asked, int) else None)
        if what == "resume":
            found = rollout.resume(conn, found, now)
        else:
            found, changed = rollout.abort(conn, con.world.metadata, con.signer, found, by, now)
        return rollout.describe(conn, found, now), changed

    doc, changed = await con.write(write)
    con.publish(changed)
    con.rollouts.began()
    return reply({"rollout": doc})


def _id(request: Request) -> int | None:
    text = request.query_params.get("id", "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _places(conn: Connection, node: str, layer: str, name: str) -> list[tuple[str, str]]:
    if not node:
        return [(layer, metadata.key_of(conn, layer, name))]
    found = nodes.get(conn, node)
    role = found.labels.get(compose.ROLE_LABEL)
    return [("defaults", ""), ("site", ""), *([("role", role)] if role is not None else []), ("node", found.id)]


def _change(conn: Connection, one: stored.LayerChange, before: dict[str, Any]) -> dict[str, Any]:
    hidden_before, hidden_after = masked(before, set()), masked(one.values, set())
    rows = [
        {"path": d.path, "kind": d.kind, "old": d.old, "new": d.new} for d in difference(hidden_before, hidden_after)
    ]
    if not rows and before != one.values:
        rows = [{"path": d.path, "kind": d.kind, "old": None, "new": None} for d in difference(before, one.values)]
    node = nodes.find(conn, one.name) if one.layer == "node" else None
    place = {"id": one.id, "layer": one.layer, "name": node.name if node else one.name}
    return {**place, "at": one.at, "by": one.by, "why": one.why, "differences": rows}
