"""One verb for many nodes: chosen by names with ranges or by a condition, a verdict each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.api.native.common import body_of, conductor, image_names, reply, who
from baremetal.api.native.nodes import ask_one
from baremetal.errors import BaremetalError, UsageError
from baremetal.store import nodes
from baremetal.workflows import powerverbs, verbs, where
from baremetal.workflows.conductor import Conductor

router = APIRouter(tags=["bulk"])


@router.post("/bulk", summary="Ask something of many nodes; dry_run only tells what would happen")
async def bulk(request: Request) -> Response:
    """One refusal stops no other."""
    con = conductor(request)
    body = await body_of(request)
    unknown = set(body) - {"verb", "nodes", "where", "args", "dry_run"}
    if unknown:
        raise UsageError(f"bulk does not know {', '.join(sorted(unknown))}")
    verb, args = str(body.get("verb", "")), body.get("args") or {}
    if not isinstance(args, dict):
        raise UsageError("args is a mapping")
    _check_verb(verb)
    images = image_names(con)
    refs = await con.store.fetch(lambda c: _chosen(c, body, images))
    by = who(request)
    results = []
    for ref in refs:
        try:
            results.append(await _one(con, ref, verb, args, by, dry=bool(body.get("dry_run"))))
        except BaremetalError as exc:
            error = {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}
            results.append(
                {"node": ref, "verdict": "refused", "because": exc.brief, "consequences": [], "error": error}
            )
    refused = sum(r["verdict"] == "refused" for r in results)
    return reply({"results": results, "accepted": len(results) - refused, "refused": refused})


async def _one(con: Conductor, ref: str, verb: str, args: dict[str, Any], by: str, *, dry: bool) -> dict[str, Any]:
    what = _consequences(con, ref, verb, args, by)
    if dry:
        return {"node": ref, "verdict": "would-accept", "because": "", "consequences": what, "error": None}
    node = await ask_one(con, ref, verb, args, by)
    return {"node": node.name, "verdict": "accepted", "because": "", "consequences": what, "error": None}


def _consequences(con: Conductor, ref: str, verb: str, args: dict[str, Any], by: str) -> list[str]:
    """What the verb will do; raises what the verb itself would."""
    node = con.store.read(lambda c: nodes.get(c, ref))
    if _is_power(verb):
        return [f"power {verb.removeprefix('power-')}"]
    known = lifecycle.parse_verb(verb)
    verbs.plan(node, known, {k: v for k, v in args.items() if k != "metadata"}, by, con.clock.now(), con.images)
    return verbs.consequences(node, known, args)


def _chosen(conn: Connection, body: dict[str, Any], images: Mapping[str, str]) -> list[str]:
    named, condition = body.get("nodes"), body.get("where")
    if (named is None) == (condition is None):
        raise UsageError(
            "bulk needs either nodes or where", fix='{"nodes": ["r1-u[01-40]"]} or {"where": "state=available"}'
        )
    if named is not None:
        if not isinstance(named, list) or not all(isinstance(n, str) for n in named):
            raise UsageError("nodes is a list of names")
        return where.expand(named)
    test = where.parse(str(condition), images)
    return [node.name for node in nodes.page(conn, limit=None) if test(node)]


def _is_power(verb: str) -> bool:
    return verb.startswith("power-") or verb in powerverbs.TARGETS


def _check_verb(verb: str) -> None:
    if not _is_power(verb):
        lifecycle.parse_verb(verb)
