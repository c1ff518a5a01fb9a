"""Webhooks: list, make, try, delete. Sending is api/webhooks.py."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal.api import webhooks
from baremetal.api.native.common import body_of, conductor, reply, who
from baremetal.errors import Refused
from baremetal.model.event import Event, Kind
from baremetal.store import events, records
from baremetal.workflows import ids

router = APIRouter(tags=["webhooks"])


@router.get("/webhooks", summary="Webhooks, and whether their receivers take what is sent")
async def every(request: Request) -> Response:
    """By name."""
    con = conductor(request)

    def read(conn: Connection) -> list[dict[str, object]]:
        last = events.last_seq(conn)
        return [webhooks.shown(r, last - r.doc["cursor"]) for r in records.of_kind(conn, webhooks.KIND)]

    return reply({"webhooks": con.store.read(read)})


@router.post("/webhooks", status_code=201, summary="Make a webhook; its secret is shown this once")
async def create(request: Request) -> Response:
    """{"name", "url", "kinds": ["fault", …] (all when empty), "secret"?}"""
    con, body = conductor(request), await body_of(request)
    now = con.clock.now()
    record, secret = await con.write(lambda c: webhooks.create(c, con, body, now))
    return reply({**webhooks.shown(record), "secret": secret}, 201)


@router.get("/webhooks/{ref}", summary="One webhook")
async def one(ref: str, request: Request) -> Response:
    """By name or id."""
    con = conductor(request)

    def read(conn: Connection) -> dict[str, object]:
        record = webhooks.find(conn, ref)
        return webhooks.shown(record, events.last_seq(conn) - record.doc["cursor"])

    return reply(con.store.read(read))


@router.post("/webhooks/{ref}/test", status_code=202, summary="Send every webhook of kind `server` a test event")
async def trial(ref: str, request: Request) -> Response:
    """The event names who asked. Refused for a webhook that would never be sent it."""
    con, now = conductor(request), conductor(request).clock.now()

    def write(conn: Connection) -> str:
        record = webhooks.find(conn, ref)
        kinds = record.doc["kinds"]
        if kinds and str(Kind.SERVER) not in kinds:
            raise Refused(
                f"{record.name} does not take events of kind server, as the test's is",
                detail=f"it takes {', '.join(kinds)}",
                fix=f"make it again with one more: baremetal webhook delete {record.name}, then baremetal webhook add "
                f"{record.name} {record.doc['url']} {' '.join(f'-k {kind}' for kind in kinds)} -k server",
            )
        told = {"webhook": record.name, "by": who(request)}
        event = Event(ids.ulid(now), now, None, Kind.SERVER, "webhook-test", "operator", data=told)
        events.add_all(conn, [event])
        return event.id

    return reply({"event": await con.write(write)}, 202)


@router.delete("/webhooks/{ref}", status_code=204, summary="Delete a webhook")
async def delete(ref: str, request: Request) -> Response:
    """What waited for it is not sent."""
    con = conductor(request)
    await con.write(lambda c: webhooks.delete(c, ref))
    return Response(status_code=204)
