"""Inspection rules and SKUs: stored, listed, tried on what inspection found."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from baremetal.api.native.common import body_of, conductor, reply
from baremetal.errors import NotFound, UsageError
from baremetal.workflows import judgement

router = APIRouter(tags=["inspection"])
KINDS = {"rules": judgement.RULE, "skus": judgement.SKU}


def _kind(name: str) -> str:
    if name not in KINDS:
        raise NotFound(f"no such list: {name[:40]}", fix="rules or skus")
    return KINDS[name]


@router.get("/inspection/{kind}", summary="All rules (in the order they are tried) or SKUs")
async def get_all(kind: str, request: Request) -> Response:
    """As stored."""
    wanted = _kind(kind)
    return reply({kind: await conductor(request).store.fetch(lambda c: judgement.listing(c, wanted))})


@router.put("/inspection/{kind}/{name}", summary="Store or replace a rule or SKU")
async def put_one(kind: str, name: str, request: Request) -> Response:
    """400 says what is wrong with it."""
    con, wanted, doc = conductor(request), _kind(kind), await body_of(request)
    if doc.setdefault("name", name) != name:
        raise UsageError(f"the document is named {doc['name']!r}, the address says {name!r}")
    now = con.clock.now()
    stored: dict[str, Any] = await con.write(lambda c: judgement.put(c, wanted, doc, now))
    return reply(stored)


@router.delete("/inspection/{kind}/{name}", summary="Forget a rule or SKU")
async def delete_one(kind: str, name: str, request: Request) -> Response:
    """What it set on nodes stays."""
    wanted = _kind(kind)
    await conductor(request).write(lambda c: judgement.remove(c, wanted, name))
    return reply({"deleted": name})


@router.post("/nodes/{ref}/inventory/reprocess", summary="Judge the stored inventory again")
async def reprocess(ref: str, request: Request) -> Response:
    """`dry_run`: only say what would change; `extra`: with this unstored rule or SKU too, or these (dry runs only)."""
    con, body = conductor(request), await body_of(request)
    if unknown := set(body) - {"dry_run", "extra"}:
        raise UsageError(f"reprocess does not know {', '.join(sorted(unknown))}", fix="dry_run, extra")
    dry, extra, now = bool(body.get("dry_run")), body.get("extra"), con.clock.now()
    if extra is not None and not dry:
        raise UsageError("an unstored rule is only tried, not applied", fix="store it first, or say dry_run")
    if dry:
        return reply(con.store.read(lambda c: judgement.again(c, con.world, ref, now, dry_run=True, extra=extra)))
    doc = await con.write(lambda c: judgement.again(c, con.world, ref, now))
    con.touched(doc["id"])
    return reply(doc)
