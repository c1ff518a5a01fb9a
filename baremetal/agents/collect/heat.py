"""The heat source: a resource's metadata from the orchestration API."""

from __future__ import annotations

from typing import List
from urllib.parse import quote

from baremetal.agents.collect import keystone
from baremetal.agents.collect.errors import Unavailable
from baremetal.agents.collect.options import Settings, say
from baremetal.agents.collect.split import Source, split
from baremetal.agents.collect.web import fetch


def heat(settings: Settings) -> List[Source]:
    session = keystone.session(settings, "heat", "stack_id", "resource_name")
    root = session.endpoint("orchestration", settings["heat", "region_name"])
    stack = quote(settings["heat", "stack_id"], safe="/")
    url = f"{root}/stacks/{stack}/resources/{quote(settings['heat', 'resource_name'], safe='')}/metadata"
    try:
        document = fetch(url, headers={"X-Auth-Token": session.token, "Accept": "application/json"}).json(url)
    except Unavailable:
        keystone.forget()
        raise
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or not metadata:
        raise Unavailable("heat has no metadata for this resource yet")
    return split("heat", metadata, settings["", "deployment_key"], say)
