"""The ec2 source: a config drive, else the EC2 metadata tree, asked once and then kept.

Instance metadata of this kind does not change, so what is in the cache is used
for good; remove <cachedir>/ec2.json to have it asked again.
"""

from __future__ import annotations

import json
import os
from typing import Any, List
from urllib.parse import quote

from baremetal.agents.collect.cache import Cache
from baremetal.agents.collect.errors import Unavailable
from baremetal.agents.collect.options import Settings
from baremetal.agents.collect.split import Source
from baremetal.agents.collect.web import fetch
from baremetal.agents.resident import drive

DRIVE_FILE = "ec2/latest/meta-data.json"
MAX_DEPTH = 16
MAX_PAGES = 2000


def ec2(settings: Settings) -> List[Source]:
    cached = Cache(settings["", "cachedir"]).path("ec2")
    if os.path.exists(cached):
        try:
            with open(cached, "rb") as f:
                return [("ec2", json.loads(f.read()))]
        except (OSError, ValueError) as exc:
            raise Unavailable(f"cannot read {cached}", detail=str(exc)) from exc
    files = drive.find()
    if files is not None and DRIVE_FILE in files:
        try:
            return [("ec2", json.loads(files[DRIVE_FILE]))]
        except ValueError as exc:
            raise Unavailable(f"the config drive's {DRIVE_FILE} is not JSON", detail=str(exc)) from exc
    tree = _Tree(settings["ec2", "timeout"])
    return [("ec2", tree.directory(settings["ec2", "metadata_url"], 0))]


class _Tree:
    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.pages = 0

    def directory(self, url: str, depth: int) -> Any:
        """Lines ending in / descend, `0=name` descends into 0/, others are values."""
        if depth > MAX_DEPTH:
            raise Unavailable(f"{url}: nested too deep")
        found = {}
        for line in self._page(f"{url}/").splitlines():
            name = line.strip()
            if not name:
                continue
            index, equals, _ = name.partition("=")
            if equals and index.isdigit():
                found[index] = self.directory(f"{url}/{quote(index)}", depth + 1)
            elif name.endswith("/"):
                found[name[:-1]] = self.directory(f"{url}/{quote(name[:-1])}", depth + 1)
            else:
                found[name] = self._page(f"{url}/{quote(name)}")
        return found

    def _page(self, url: str) -> str:
        self.pages += 1
        if self.pages > MAX_PAGES:
            raise Unavailable(f"{url}: more than {MAX_PAGES} pages")
        return fetch(url, timeout_s=self.timeout_s).body.decode("utf-8", "replace")
