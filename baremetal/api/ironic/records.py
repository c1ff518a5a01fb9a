"""Deploy templates and runbooks: named lists of steps. A template whose name is among an instance's traits adds its
steps to that node's deploy; a runbook whose name is a trait of the node gives the steps of a clean or service."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.api.http import Reply
from baremetal.api.ironic import fields, jsonpatch
from baremetal.api.ironic.common import Asked, Handler, answer, links, only, page_of, route, typed
from baremetal.api.ironic.traits import checked
from baremetal.api.ironic.version import Refusal
from baremetal.errors import Refused
from baremetal.model.node import Node
from baremetal.store import records
from baremetal.store.records import Record

TEXT, LIST, OBJECT, FLAG = (str,), (list,), (dict,), (bool,)
STEPS_MOST = 100


@dataclass(frozen=True)
class Kind:
    """One of these resources: its path, the words of its errors, its first microversion, its members."""

    path: str
    word: str
    label: str
    since: int
    types: dict[str, tuple[type, ...]]
    defaults: dict[str, Any]


STEP: dict[str, tuple[type, ...]] = {
    "interface": TEXT,
    "step": TEXT,
    "args": OBJECT,
    "priority": (int,),
    "order": (int,),
}
TEMPLATES = Kind(
    "deploy_templates",
    "deploy-template",
    "Deploy template",
    55,
    {"uuid": TEXT, "name": TEXT, "steps": LIST, "extra": OBJECT, "description": TEXT},
    {"extra": {}, "description": None},
)
RUNBOOKS = Kind(
    "runbooks",
    "runbook",
    "Runbook",
    92,
    {
        "uuid": TEXT,
        "name": TEXT,
        "steps": LIST,
        "extra": OBJECT,
        "disable_ramdisk": FLAG,
        "public": FLAG,
        "owner": TEXT,
        "description": TEXT,
    },
    {"extra": {}, "disable_ramdisk": False, "public": False, "owner": None, "description": None},
)


def _register(kind: Kind) -> None:
    verbs: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", f"/{kind.path}", _every),
        ("POST", f"/{kind.path}", _create),
        ("GET", f"/{kind.path}/{{}}", _get),
        ("PATCH", f"/{kind.path}/{{}}", _patch),
        ("DELETE", f"/{kind.path}/{{}}", _delete),
    )
    for method, pattern, handler in verbs:
        bound: Handler = functools.partial(handler, kind)
        route(method, pattern, kind.since)(bound)


async def _every(kind: Kind, asked: Asked) -> Reply:
    asked.known_query("fields", "limit", "marker", "sort_key", "sort_dir", "detail", "project", "public")
    found = asked.con.store.read(lambda c: records.of_kind(c, kind.word))
    detail, names = asked.flag("detail"), asked.fields()
    docs = [_doc(kind, asked, record) for record in found]
    page = page_of(docs, asked, kind.path)
    short = None if detail else ("uuid", "name")
    page[kind.path] = [only(doc, names or short) for doc in page[kind.path]]
    return answer(asked, page)


async def _create(kind: Kind, asked: Asked) -> Reply:
    body = await asked.body(what=kind.word.rpartition("-")[2])
    _checked(kind, body)
    try:
        record_id = str(uuid.UUID(body["uuid"])) if body.get("uuid") else str(uuid.uuid4())
    except ValueError:
        raise Refusal(400, f"Expected UUID for uuid: {body['uuid'][:80]}") from None
    now = asked.con.clock.now()
    doc = kind.defaults | {k: v for k, v in body.items() if k not in ("uuid", "name")}
    record = Record(record_id, kind.word, body["name"], doc, now, 0.0)
    try:
        await asked.con.write(lambda c: records.add(c, record))
    except Refused:
        raise Refusal(409, f"A {kind.label.lower()} with name {body['name']} already exists.") from None
    return answer(asked, _doc(kind, asked, record), 201, f"{kind.path}/{record_id}")


async def _get(kind: Kind, asked: Asked, ident: str) -> Reply:
    return answer(asked, only(_doc(kind, asked, _find(kind, asked, ident)), asked.fields()))


async def _patch(kind: Kind, asked: Asked, ident: str) -> Reply:
    steps = await asked.body(list, "patch")
    jsonpatch.check(steps, set(kind.types) - {"uuid"})
    record, now = _find(kind, asked, ident), asked.con.clock.now()
    after = jsonpatch.apply({"name": record.name, **record.doc}, steps)
    after = {k: kind.defaults.get(k) if v is None else v for k, v in after.items()}
    _checked(kind, {k: v for k, v in after.items() if v is not None})
    name, doc = after["name"], {k: v for k, v in after.items() if k != "name"}

    def write(conn: Connection) -> Record:
        other = records.find(conn, kind.word, name)
        if other and other.id != record.id:
            raise Refusal(409, f"A {kind.label.lower()} with name {name} already exists.")
        records.change(conn, record.id, name, doc, now)
        return Record(record.id, kind.word, name, doc, record.created_at, now)

    return answer(asked, _doc(kind, asked, await asked.con.write(write)))


async def _delete(kind: Kind, asked: Asked, ident: str) -> Reply:
    record = _find(kind, asked, ident)
    await asked.con.write(lambda c: records.delete(c, record.id))
    return answer(asked, None, 204)


def _checked(kind: Kind, body: dict[str, Any]) -> None:
    what = kind.word.rpartition("-")[2]
    typed(what, body, kind.types, ("name", "steps"))
    checked(body["name"])
    if not 0 < len(body["steps"]) <= STEPS_MOST:
        raise Refusal(400, f"Schema error for {what}: 1 to {STEPS_MOST} steps are possible")
    for step in body["steps"]:
        if not isinstance(step, dict):
            raise Refusal(400, f"Schema error for {what}: {str(step)[:80]!r} is not of type 'object'")
        typed(what, step, STEP, ("interface", "step"))


def _find(kind: Kind, asked: Asked, ident: str) -> Record:
    record = asked.con.store.read(lambda c: records.find(c, kind.word, ident))
    if record is None:
        raise Refusal(404, f"{kind.label} {ident[:80]} could not be found.")
    return record


def _doc(kind: Kind, asked: Asked, record: Record) -> dict[str, Any]:
    doc = {
        "uuid": record.id,
        "name": record.name,
        **record.doc,
        "created_at": fields.when(record.created_at),
        "updated_at": fields.when(record.updated_at),
        "links": links(asked.base, f"{kind.path}/{record.id}"),
    }
    if asked.minor < 112:  # descriptions came later than what we speak
        doc.pop("description", None)
    return doc


def template_steps(asked: Asked, node: Node, instance_info: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps of every template that the instance's traits name."""
    traits = [trait for trait in instance_info.get("traits") or [] if trait in node.traits]
    found: list[dict[str, Any]] = []
    for trait in traits:
        record = asked.con.store.read(functools.partial(records.find, kind=TEMPLATES.word, ref=trait))
        if record is not None:
            found += [{k: v for k, v in step.items() if k != "order"} for step in record.doc["steps"]]
    return found


def runbook_steps(asked: Asked, ident: str, node: Node) -> list[dict[str, Any]]:
    """The steps of a runbook this node has the trait for."""
    record = _find(RUNBOOKS, asked, ident)
    if record.name not in node.traits:
        raise Refusal(400, f"Node {node.id} has not the trait {record.name} of the runbook.")
    steps = sorted(record.doc["steps"], key=lambda step: int(step.get("order") or 0))
    return [{k: v for k, v in step.items() if k != "order"} for step in steps]


_register(TEMPLATES)
_register(RUNBOOKS)
