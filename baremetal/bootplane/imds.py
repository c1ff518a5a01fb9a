"""The metadata service that clouds have, on the plain HTTP port: /latest/…, /openstack/… (protocol/imds.py).

For cloud-init and other clients that know nothing of us. A node is known by the
address it asks from, so whatever is answered here any process on the node, and
anyone who takes its address, can read: names, labels, public keys, never the
values of its metadata document. Our own agent uses HTTPS and a token instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from baremetal.bootplane.answers import HttpError
from baremetal.bootplane.state import Entry, State
from baremetal.model.boot import Purpose
from baremetal.protocol import imds


@dataclass
class CloudMetadata:
    """Handlers of the EC2 and OpenStack paths."""

    state: State

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """GET of any path of the tree."""
        if not self.state.standing.good():
            raise HttpError(503, "cut-off", "this server cannot reach the database")
        entry = self.state.by_address(request.remote or "")
        # A ramdisk, or a machine that is being released, is no instance.
        if entry is None or entry.record.purpose not in (Purpose.DISK, Purpose.NETBOOT):
            raise HttpError(404, "not-found", "no deployed node has this address")
        body = imds.table(instance_of(entry)).get(request.path)
        if body is None:
            raise HttpError(404, "not-found", f"{request.path[:80]} is not known of {entry.record.name}")
        kind = "application/json" if request.path.endswith(".json") else "text/plain"
        return web.Response(body=body, content_type=kind, headers={"Cache-Control": "no-store"})

    def routes(self) -> list[web.RouteDef]:
        roots = [*imds.EC2_VERSIONS, "openstack"]
        found = [web.get("/", self.answer)]
        for root in roots:
            found += [web.get(f"/{root}", self.answer), web.get(f"/{root}/{{tail:.*}}", self.answer)]
        return found


def instance_of(entry: Entry) -> imds.Instance:
    """What the service may know of a node."""
    return imds.Instance(
        node=entry.view.node, name=entry.record.name, address=entry.record.address, keys=_keys(entry.view.metadata)
    )


def _keys(metadata: dict[str, Any] | None) -> dict[str, str]:
    """SSH public keys: the value ssh.keys of the metadata document, {name: key}."""
    if metadata is None:
        return {}
    try:
        keys = json.loads(metadata["document"])["values"]["ssh"]["keys"]
        return {str(name): str(key) for name, key in keys.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
