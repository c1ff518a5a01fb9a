"""The ASGI application of /v1 (and of /, version discovery): finds the route, words every error as Ironic does."""

from __future__ import annotations

import logging
from urllib.parse import unquote

from baremetal.api.http import BadRequest, Receive, Reply, Scope, Send, send_reply
from baremetal.api.ironic import agents as agents  # each of these registers its routes
from baremetal.api.ironic import allocations as allocations
from baremetal.api.ironic import catalog as catalog
from baremetal.api.ironic import nodes as nodes
from baremetal.api.ironic import ports as ports
from baremetal.api.ironic import records as records
from baremetal.api.ironic import states as states
from baremetal.api.ironic import traits as traits
from baremetal.api.ironic import version
from baremetal.api.ironic.common import Asked, routes
from baremetal.api.ironic.shelf import Shelf
from baremetal.api.ironic.version import Refusal
from baremetal.api.status import status_of
from baremetal.errors import BaremetalError
from baremetal.workflows.conductor import Conductor

log = logging.getLogger(__name__)
PATH_MOST = 2048
# Below /v1: what is answered from the store alone, and what below a node is not.
LOOKS = frozenset({"nodes", "ports", "drivers", "conductors", "allocations", "deploy_templates", "runbooks"})
WORKS = frozenset({"validate", "management"})


class IronicApp:
    """Everything below /v1."""

    def __init__(self, con: Conductor) -> None:
        self._con = con
        self._shelf = Shelf()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        minor = version.MINIMUM[1]
        try:
            minor = version.minor_of(scope)
            reply = await self._answer(scope, receive, minor)
        except Refusal as exc:
            reply = version.error(exc.status, exc.text, exc.code, minor)
        except BadRequest as exc:
            reply = version.error(exc.status, f"{exc.text}. {exc.fix}".strip(), minor=minor)
        except BaremetalError as exc:
            text = " ".join(part for part in (exc.brief, exc.detail, exc.fix and f"Fix: {exc.fix}") if part)
            reply = version.error(status_of(exc), text, minor=minor)
        except Exception as exc:
            log.exception("%s %s failed", scope["method"], scope["path"][:200])
            text = f"the server failed: {type(exc).__name__}; its log has the details"
            reply = version.error(500, text, "Server", minor)
        await send_reply(send, reply)

    def only_looks(self, scope: Scope) -> bool:
        """GETs that read the store and nothing else: no BMC, no write."""
        if scope["method"] not in ("GET", "HEAD"):
            return False
        parts = scope["path"].split("/", 5)
        return len(parts) < 3 or (parts[2] in LOOKS and not (len(parts) > 4 and parts[4] in WORKS))

    async def _answer(self, scope: Scope, receive: Receive, minor: int) -> Reply:
        parts = segments(scope)
        found = routes.find(parts)
        if found is None:
            raise Refusal(404, f"{scope['path'][:200]}: there is nothing of that name")
        here, values = found
        method = scope["method"]
        handler, since = here.get("GET" if method == "HEAD" else method, (None, 0))
        if handler is None:
            raise Refusal(405, f"{method} is not possible here; possible: {', '.join(sorted(here))}")
        if minor < since:
            raise Refusal(404, f"{scope['path'][:200]} needs API version 1.{since}; 1.{minor} was asked for")
        return await handler(Asked(self._con, self._shelf, scope, receive, minor), *values)


def segments(scope: Scope) -> list[str]:
    """The path below /v1, split before it is unquoted: an encoded slash is part of a name, never of the path."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if len(raw) > PATH_MOST:
        raise Refusal(414, f"the path is longer than {PATH_MOST} bytes")
    text = raw.split(b"?", 1)[0].decode("latin-1").rstrip("/")
    if text and not f"{text}/".startswith("/v1/"):
        # Spelt as /v1%2F…, it would be one path for who may ask (projects.node_in) and another one here.
        raise Refusal(404, f"{scope['path'][:200]}: there is nothing of that name")
    parts = [unquote(part) for part in text.removeprefix("/v1").split("/")[1:]]
    if any(part in ("", ".", "..") or "\0" in part or "/" in part for part in parts):
        raise Refusal(400, "Expected UUID or name: the path has an empty or forbidden part")
    if not parts and not text.startswith("/v1"):
        return [":versions"]
    return parts or [""]
