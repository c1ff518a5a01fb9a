"""The control plane's HTTP application on a Conductor it is given. Opens no socket.

/v1 has its own routes (ironic/app.py), /api and /metrics are FastAPI's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from baremetal.api import metrics, sensormetrics
from baremetal.api.auditlog import AuditLog
from baremetal.api.auth import Parties
from baremetal.api.http import JSON_TYPE, BadRequest, Receive, Reply, Scope, Send, check_length, dumps, send_reply
from baremetal.api.ironic import version
from baremetal.api.ironic.app import IronicApp
from baremetal.api.ironic.common import parties
from baremetal.api.native import (
    audit,
    bmcs,
    bulk,
    care,
    console,
    events,
    inspection,
    metadata,
    metadatacare,
    misc,
    networks,
    nodes,
    servers,
    story,
    webhooks,
)
from baremetal.api.status import status_of
from baremetal.api.tally import Tally
from baremetal.api.webhooks import Webhooks
from baremetal.errors import BaremetalError
from baremetal.store import nodes as store_nodes
from baremetal.version import __version__
from baremetal.workflows.conductor import Conductor

log = logging.getLogger(__name__)

ROUTERS = (
    nodes.router,
    bulk.router,
    story.router,
    metadata.router,
    metadatacare.router,
    events.router,
    misc.router,
    networks.router,
    inspection.router,
    care.router,
    servers.router,
    webhooks.router,
    audit.router,
)


class Application:
    """ASGI: /v1 and / by our own routes, everything else by FastAPI."""

    def __init__(self, conductor: Conductor, hooks: Webhooks | None, audit_log: AuditLog | None) -> None:
        self._ironic, self._native = IronicApp(conductor), native_app(conductor, hooks, audit_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if _in_ironic(scope):
            await self._ironic(scope, receive, send)
            return
        try:
            check_length(scope)
        except BadRequest as exc:
            await send_reply(send, self.bad(scope, exc))
            return
        await self._native(scope, receive, send)

    def only_looks(self, scope: Scope) -> bool:
        """Can this be answered from the store alone, on any thread?"""
        return bool(scope["type"] == "http") and _in_ironic(scope) and self._ironic.only_looks(scope)

    def bad(self, scope: Scope, exc: BadRequest) -> Reply:
        """What is no request, in the words of the API it was meant for."""
        if _in_ironic(scope):
            return version.error(exc.status, f"{exc.text}. {exc.fix}".strip())
        return Reply(exc.status, dumps(_doc("usage", exc.text, "", exc.fix)), [JSON_TYPE])


def _in_ironic(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/" or path == "/v1" or path.startswith("/v1/")


def create_app(conductor: Conductor, hooks: Webhooks | None = None, audit_log: AuditLog | None = None) -> Application:
    """The application. Authentication, where it is wanted, stands before it."""
    return Application(conductor, hooks, audit_log)


def parties_in(conductor: Conductor) -> Parties:
    """Who owns and who leases a node, for the guard."""

    def ask(ref: str) -> tuple[str | None, str | None] | None:
        node = conductor.store.read(lambda c: store_nodes.find(c, ref))
        return parties(node) if node else None

    return ask


def native_app(conductor: Conductor, hooks: Webhooks | None = None, audit_log: AuditLog | None = None) -> FastAPI:
    """/api and /metrics."""
    app = FastAPI(
        title="baremetal",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        summary="Bare-metal provisioning: nodes, metadata, events.",
    )
    app.state.conductor = conductor
    app.state.audit = audit_log
    tally = app.state.tally = Tally()
    if hooks is not None:
        tally.webhooks = hooks.counts
    conductor.store.read(lambda c: metrics.catch_up(c, tally))
    drivers = conductor.world.drivers
    if hasattr(drivers, "on_attempt"):
        drivers.on_attempt = lambda attempt: tally.call(attempt.op, attempt.outcome, attempt.seconds)
    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    app.include_router(bmcs.router, prefix="/api")
    app.include_router(console.router, prefix="/api")
    app.include_router(metrics.router)
    app.include_router(sensormetrics.router)
    app.add_exception_handler(BaremetalError, _ours)
    app.add_exception_handler(BadRequest, _bad)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    setattr(app, "openapi", _described(app))  # noqa: B010 (mypy: methods are not to be assigned)
    return app


def _described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The OpenAPI document, with what every operation has in common: a JSON object in, an error of four texts out."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        doc = plain()
        texts = {name: {"type": "string"} for name in ("code", "brief", "detail", "fix")}
        error = {"type": "object", "properties": {"error": {"type": "object", "properties": texts}}}
        body = {"content": {"application/json": {"schema": {"type": "object"}}}}
        for path, operations in doc["paths"].items():
            for method, operation in operations.items():
                if method in ("post", "put", "patch"):
                    operation.setdefault("requestBody", body)
                refused = {
                    "description": "Refused; says what to do",
                    "content": {"application/json": {"schema": error}},
                }
                operation["responses"].setdefault("4XX", refused)
                if path == "/metrics":
                    operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
        return doc

    return openapi


def _doc(code: str, brief: str, detail: str, fix: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "brief": brief, "detail": detail, "fix": fix}}


def _error(status: int, code: str, brief: str, detail: str, fix: str) -> JSONResponse:
    return JSONResponse(_doc(code, brief, detail, fix), status_code=status)


async def _ours(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, BaremetalError)
    return _error(status_of(exc), exc.code, exc.brief, exc.detail, exc.fix)


async def _bad(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, BadRequest)
    return _error(exc.status, "usage", exc.text, "", exc.fix)


async def _invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0] if exc.errors() else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    return _error(
        422, "usage", f"the request cannot be understood: {place}: {first.get('msg', '')}", "", "see /api/openapi.json"
    )


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = {404: "not-found", 405: "usage"}.get(exc.status_code, "error")
    fix = "see /api/openapi.json for what there is" if exc.status_code in (404, 405) else ""
    return _error(exc.status_code, code, f"{request.method} {request.url.path[:200]}: {exc.detail}", "", fix)


async def _bug(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path[:200], exc_info=exc)
    what = f"the server failed on {request.method} {request.url.path[:200]}: {type(exc).__name__}"
    return _error(500, "internal", what, "", "the server's log has the details; report it")
