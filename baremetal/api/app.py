"""The control plane's HTTP application: native /api on a Conductor it is given. Opens no socket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from baremetal.api import metrics, sensormetrics
from baremetal.api.ironic import nodes as ironic_nodes
from baremetal.api.ironic import others as ironic
from baremetal.api.ironic import version as ironic_version
from baremetal.api.ironic.version import Refusal
from baremetal.api.native import bmcs, bulk, care, console, events, metadata, metadatacare, misc, nodes, story
from baremetal.errors import BaremetalError
from baremetal.version import __version__
from baremetal.workflows.conductor import Conductor

log = logging.getLogger(__name__)

MAX_BODY = 8 * 1024 * 1024  # bytes; an import of 10,000 nodes has about 3 MB
# What an error is over HTTP, by its code; anything else is 500.
STATUS = {
    "usage": 400,
    "not-found": 404,
    "refused": 409,
    "fenced": 412,
    "denied": 403,
    "nonce-refused": 403,
    "unreachable": 502,
    "timeout": 504,
    "machine": 503,
    "store": 503,
    "bmc-unsupported": 501,
    "bmc-error": 502,
}


def create_app(conductor: Conductor) -> FastAPI:
    """The application. Authentication, where it is wanted, stands before it."""
    app = FastAPI(
        title="baremetal",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        summary="Bare-metal provisioning: nodes, metadata, events.",
    )
    app.state.conductor = conductor
    natives = (nodes, bulk, story, metadata, metadatacare, events, misc, care)
    for native in natives:
        app.include_router(native.router, prefix="/api")
    app.include_router(bmcs.router, prefix="/api")
    app.include_router(console.router, prefix="/api")
    app.include_router(metrics.router)
    app.include_router(sensormetrics.router)
    app.include_router(ironic.root)
    app.include_router(ironic_nodes.router, prefix="/v1")
    app.include_router(ironic.router, prefix="/v1")
    app.add_exception_handler(Refusal, _ironic)
    app.add_exception_handler(BaremetalError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    app.middleware("http")(_bounded)
    return app


async def _bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """No body without a sane length reaches a handler."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY:
        return _error(413, "usage", f"the request body is larger than {MAX_BODY} bytes", "", "send less at once")
    if request.headers.get("transfer-encoding"):
        return _error(411, "usage", "a request needs its Content-Length", "", "do not send it chunked")
    return await call_next(request)


def _error(status: int, code: str, brief: str, detail: str, fix: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "brief": brief, "detail": detail, "fix": fix}}, status_code=status)


def status_of(exc: BaremetalError) -> int:
    """The HTTP status of an error."""
    for cls in type(exc).__mro__:
        code = getattr(cls, "code", None)
        if code in STATUS:
            return STATUS[str(code)]
    return 500


def _in_ironic(request: Request) -> bool:
    return request.url.path.startswith("/v1")


async def _ironic(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refusal)
    return ironic_version.error(exc.status, exc.text, exc.code)


async def _ours(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, BaremetalError)
    if _in_ironic(request):
        text = " ".join(part for part in (exc.brief, exc.detail, exc.fix and f"Fix: {exc.fix}") if part)
        return ironic_version.error(status_of(exc), text)
    return _error(status_of(exc), exc.code, exc.brief, exc.detail, exc.fix)


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
    if _in_ironic(request):
        return ironic_version.error(exc.status_code, f"{request.url.path[:200]}: {exc.detail}")
    fix = "see /api/openapi.json for what there is" if exc.status_code in (404, 405) else ""
    return _error(exc.status_code, code, f"{request.method} {request.url.path[:200]}: {exc.detail}", "", fix)


async def _bug(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path[:200], exc_info=exc)
    what = f"the server failed on {request.method} {request.url.path[:200]}: {type(exc).__name__}"
    return _error(500, "internal", what, "", "the server's log has the details; report it")
