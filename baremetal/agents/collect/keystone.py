"""A token and the service addresses from Keystone v3, kept in memory for as long as they hold."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from baremetal.agents.collect.errors import NotConfigured, Unavailable
from baremetal.agents.collect.options import Settings
from baremetal.agents.collect.web import fetch

TIMEOUT_S = 10.0


class Session(NamedTuple):
    """A token and the catalog that came with it; `until` by the monotonic clock."""

    token: str
    catalog: List[Dict[str, Any]]
    until: float

    def endpoint(self, kind: str, region: Optional[str]) -> str:
        """The public address of a service, without a slash at its end."""
        for service in self.catalog:
            if service.get("type") != kind:
                continue
            for endpoint in service.get("endpoints", []):
                regions = (endpoint.get("region"), endpoint.get("region_id"))
                if endpoint.get("interface") == "public" and (not region or region in regions):
                    return str(endpoint["url"]).rstrip("/")
        raise Unavailable(f"Keystone knows no public {kind} endpoint" + (f" in region {region}" if region else ""))


_sessions: Dict[Tuple[str, str, str], Session] = {}


def session(settings: Settings, group: str, *needed: str) -> Session:
    """Log in as this group's options say; NotConfigured when any of them, or of `needed`, is missing."""
    for name in ("auth_url", "user_id", "password", "project_id", *needed):
        if not settings[group, name]:
            raise NotConfigured(f"no {group}.{name}")
    key = (settings[group, "auth_url"], settings[group, "user_id"], settings[group, "project_id"])
    known = _sessions.get(key)
    if known is None or known.until < time.monotonic():
        known = _sessions[key] = _login(settings, group)
    return known


def forget() -> None:
    """Log in again next time: a token was refused."""
    _sessions.clear()


def _login(settings: Settings, group: str) -> Session:
    body = {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"id": settings[group, "user_id"], "password": settings[group, "password"]}},
            },
            "scope": {"project": {"id": settings[group, "project_id"]}},
        }
    }
    url = f"{_identity_v3(settings[group, 'auth_url'])}/auth/tokens"
    headers = {"Content-Type": "application/json"}
    page = fetch(url, method="POST", body=json.dumps(body).encode(), headers=headers, timeout_s=TIMEOUT_S)
    document = page.json(url)
    token = page.headers.get("x-subject-token")
    catalog = document.get("token", {}).get("catalog") if isinstance(document, dict) else None
    if not token or not isinstance(catalog, list):
        raise Unavailable("Keystone answered without a token or a catalog")
    return Session(token, catalog, time.monotonic() + float(settings["keystone", "cache_ttl"]))


def _identity_v3(auth_url: str) -> str:
    """The v3 root: as given, or in place of v2.0, or below an address without a version."""
    url = auth_url.rstrip("/")
    if url.endswith("/v3"):
        return url
    if url.endswith("/v2.0"):
        url = url[: -len("/v2.0")]
    return f"{url}/v3"
