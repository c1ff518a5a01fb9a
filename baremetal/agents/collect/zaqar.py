"""The zaqar source: takes one message of a queue. A message is gone once taken, so the cache
is its only copy until the command has succeeded (cli.py tries again until then)."""

from __future__ import annotations

import uuid
from typing import List
from urllib.parse import quote

from baremetal.agents.collect import keystone
from baremetal.agents.collect.errors import Unavailable
from baremetal.agents.collect.options import Settings, say
from baremetal.agents.collect.split import Source, split
from baremetal.agents.collect.web import fetch

_CLIENT = str(uuid.uuid4())


def zaqar(settings: Settings) -> List[Source]:
    session = keystone.session(settings, "zaqar", "queue_id")
    root = session.endpoint("messaging", settings["zaqar", "region_name"])
    root = root if root.endswith(("/v1", "/v1.1", "/v2")) else f"{root}/v2"
    queue = f"{root}/queues/{quote(settings['zaqar', 'queue_id'], safe='')}"
    headers = {"X-Auth-Token": session.token, "Client-ID": _CLIENT, "X-Project-Id": settings["zaqar", "project_id"]}
    headers["Accept"] = "application/json"
    ca_file = settings["zaqar", "ca_file"]
    try:
        page = fetch(f"{queue}/messages?pop=1", method="DELETE", headers=headers, ca_file=ca_file)
    except Unavailable:
        keystone.forget()
        raise
    if not page.body:
        raise Unavailable("the zaqar queue is empty")
    document = page.json(queue)
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
        raise Unavailable("the zaqar queue is empty")
    return split("zaqar", messages[0].get("body"), settings["", "deployment_key"], say)
