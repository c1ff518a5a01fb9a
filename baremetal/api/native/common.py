"""What the native routes share: the conductor, who asks, JSON out, names of images and nodes."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from sqlalchemy.engine import Connection

from baremetal.api.http import parse_json
from baremetal.errors import Denied, UsageError
from baremetal.model.node import Node
from baremetal.store import metadata, nodes, orders, ports
from baremetal.workflows import views
from baremetal.workflows.compose import ROLE_LABEL, has_directives
from baremetal.workflows.conductor import Conductor

IMAGE_NAMES_S = 2.0


def conductor(request: Request) -> Conductor:
    """The conductor this application serves."""
    found: Conductor = request.app.state.conductor
    return found


def who(request: Request) -> str:
    """Who asks, for events and refusals. Over the unix socket the CLI says it; authentication overrides it."""
    known = request.scope.get("baremetal.user")
    return str(known or request.headers.get("x-baremetal-user") or "operator")[:80]


def reply(doc: Any, status: int = 200) -> JSONResponse:
    """JSON as it is."""
    return JSONResponse(doc, status_code=status)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object sent; an empty body is an empty object."""
    raw = await request.body()
    doc = parse_json(raw) if raw.strip() else {}
    if not isinstance(doc, dict):
        raise UsageError(f"the body must be a JSON object, not {type(doc).__name__}")
    return doc


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from the query; a fraction of a second asked for is rounded."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    try:
        value = round(float(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{name}={text[:40]!r} is not a number") from None
    return max(0, min(value, most))


def image_names(con: Conductor) -> dict[str, str]:
    """Image names by id; the image store is looked through at most every other second."""
    cache: tuple[float, dict[str, str]] | None = getattr(con, "_image_names", None)
    if cache and time.monotonic() - cache[0] < IMAGE_NAMES_S:
        return cache[1]
    names = {image.id: image.name for image in con.images.list()}
    con._image_names = (time.monotonic(), names)  # type: ignore[attr-defined]
    return names


def full(conn: Connection, con: Conductor, node: Node) -> dict[str, Any]:
    """One node with everything beside it."""
    document = metadata.get_document(conn, con.world.metadata, node.id)
    return views.node_json(
        node,
        ports=ports.of_node(conn, node.id),
        order=orders.get(conn, node.work.get("order")),
        image_name=image_names(con).get(node.image_id or ""),
        generation=document.generation if document else None,
    )


def show(con: Conductor, ref: str) -> dict[str, Any]:
    """One node by id or name, as it is now."""
    return con.store.read(lambda c: full(c, con, nodes.get(c, ref)))


def check_tenant(request: Request, node: Node, *, labels: Any = None, metadata: Any = None) -> None:
    """Denied when an account of a project would reach, through its node, for what is the site's or a role's.

    References in metadata give other nodes' facts, stored secrets and passwords
    derived from the site's key; the role label gives a role's layer and secrets.
    """
    if request.scope.get("baremetal.project") is None:
        return
    if isinstance(labels, dict) and labels.get(ROLE_LABEL) != node.labels.get(ROLE_LABEL):
        raise Denied(f"the role of {node.name} is the site's to give", fix="ask an operator of the site")
    if has_directives(metadata):
        raise Denied(
            "metadata of a project's account holds no references ($secret, $generate, $nodes)",
            fix="write the values themselves, or ask an operator of the site",
        )


def in_charge(request: Request, node: Node) -> bool:
    """May act on this node, not only look: not an observer, and not who leases it from another project."""
    from baremetal.api.auth import OBSERVER
    from baremetal.api.ironic.common import parties

    project = request.scope.get("baremetal.project")
    return request.scope.get("baremetal.role") != OBSERVER and (project is None or parties(node)[0] == project)
