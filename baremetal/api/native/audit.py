"""The audit log over the API."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from baremetal.api.auditlog import AuditLog
from baremetal.api.native.common import number, reply
from baremetal.errors import NotFound

router = APIRouter(tags=["server"])


@router.get("/audit", summary="Who asked for what, from where, with which result")
async def audit(request: Request) -> Response:
    """The newest `limit` entries, oldest first; `node` and `who` filter."""
    log: AuditLog | None = request.app.state.audit
    if log is None:
        raise NotFound("this server keeps no audit log", fix="it is kept by `baremetal serve`, in state_dir/logs")
    limit = number(request, "limit", 100, 10_000)
    wanted = {key: request.query_params[key] for key in ("node", "who", "status") if request.query_params.get(key)}
    entries = await asyncio.to_thread(lambda: log.newest(limit, **wanted))
    return reply({"entries": entries})
