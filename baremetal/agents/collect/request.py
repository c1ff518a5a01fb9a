"""The request source: one JSON object at a plain address, such as a Swift temp-URL or our metadata service."""

from __future__ import annotations

from typing import List

from baremetal.agents.collect.errors import NotConfigured, Unavailable
from baremetal.agents.collect.options import Settings, say
from baremetal.agents.collect.split import Source, split
from baremetal.agents.collect.web import fetch


def request(settings: Settings) -> List[Source]:
    url = settings["request", "metadata_url"]
    if not url:
        raise NotConfigured("no request.metadata_url")
    document = fetch(url, timeout_s=settings["request", "timeout"]).json(url)
    if not isinstance(document, dict):
        raise Unavailable(f"{url} answered JSON that is no object")
    return split("request", document, settings["", "deployment_key"], say)
