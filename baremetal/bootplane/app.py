"""The two aiohttp applications of the boot plane: plain HTTP for firmware, HTTPS for agents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from baremetal.bootplane import answers
from baremetal.bootplane.agentapi import AgentApi
from baremetal.bootplane.firmware import Firmware, Tree
from baremetal.bootplane.imds import CloudMetadata
from baremetal.bootplane.link import Link
from baremetal.bootplane.quick import Answers
from baremetal.bootplane.state import State
from baremetal.bootplane.throttle import Throttle
from baremetal.bootplane.wake import Wakeups
from baremetal.protocol.agent import AGENT_ROOT

log = logging.getLogger(__name__)

# Larger than any request we expect; a client that needs more is not one of ours.
LINE_BYTES = 4096
HEADERS = 64


@dataclass
class Apps:
    """Both applications and what they share. `quick`: what is answered before `http` is asked (quick.py)."""

    http: web.Application
    quick: Answers
    https: web.Application
    wakeups: Wakeups
    throttle: Throttle


def make_apps(
    state: State, link: Link, *, templates: Mapping[str, str], loaders: Tree, https_port: int, download_bytes_s: int = 0
) -> Apps:
    """Applications that answer from `state` and report to `link`; downloads share `download_bytes_s` (0: no limit)."""
    wakeups = Wakeups()
    state.listen(wakeups.wake)
    firmware = Firmware(state, link, templates, loaders, https_port, Throttle(download_bytes_s))
    agent = AgentApi(state, link, wakeups)
    images = web.get("/images/{id}/{name}", firmware.image)
    http = _application(
        [
            web.get("/boot/{mac}.ipxe", firmware.script),
            web.get("/artifacts/{name}", firmware.artifact),
            web.get("/loaders/{name}", firmware.loader),
            images,
            *CloudMetadata(state).routes(),
        ]
    )
    https = _application([*agent.routes(AGENT_ROOT), images])
    return Apps(http, firmware.quick, https, wakeups, firmware.throttle)


def _application(routes: list[web.RouteDef]) -> web.Application:
    app = web.Application(middlewares=[_errors])
    app.add_routes(routes)
    return app


@web.middleware
async def _errors(request: web.Request, handler: answers.Handler) -> web.StreamResponse:
    """Every failure is a JSON error; none is a traceback to the client."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        response = answers.error(exc.status, "http", exc.reason or "refused")
        if "Allow" in exc.headers:  # 405 must say what is allowed (RFC 9110 §15.5.6)
            response.headers["Allow"] = exc.headers["Allow"]
        return response
    except (ConnectionError, TimeoutError):
        raise
    except Exception as exc:
        response = answers.of_exception(exc)
        if response.status == 500:
            log.exception("%s %s failed", request.method, request.path)
        return response
