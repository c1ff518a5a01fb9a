"""Fetches pages for the collectors: redirects followed, total time and size bounded."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from typing import Any, Dict, List, NamedTuple, Optional

from baremetal.agents.collect.errors import Unavailable

MAX_BYTES = 64 * 1024 * 1024


class Page(NamedTuple):
    """A whole answer of status 2xx; header names in lower case."""

    headers: Dict[str, str]
    body: bytes

    def json(self, where: str) -> Any:
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as exc:
            raise Unavailable(f"{where} did not answer JSON", detail=str(exc)) from exc


def fetch(
    url: str,
    *,
    method: str = "GET",
    body: Optional[bytes] = None,
    headers: Optional[Dict[str, str]] = None,
    timeout_s: float = 10.0,
    ca_file: Optional[str] = None,
) -> Page:
    """One page; anything but success within the time is Unavailable."""
    if not url.lower().startswith(("http://", "https://")):
        raise Unavailable(f"not an http address: {url}")
    shown = url.partition("?")[0]  # the query may hold a signature
    deadline = time.monotonic() + timeout_s
    try:
        context = ssl.create_default_context(cafile=ca_file) if url.lower().startswith("https") else None
        request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:  # noqa: S310
            return Page({k.lower(): v for k, v in answer.headers.items()}, _read(answer, deadline, shown))
    except urllib.error.HTTPError as exc:
        raise Unavailable(f"{shown} answered {exc.code}") from exc
    except (OSError, ValueError, EOFError) as exc:
        raise Unavailable(f"{shown} does not answer", detail=str(exc)) from exc
    except Exception as exc:  # http.client has errors of its own for answers that are no HTTP
        if type(exc).__module__ != "http.client":
            raise
        raise Unavailable(f"{shown} does not speak HTTP", detail=str(exc)) from exc


def _read(answer: Any, deadline: float, shown: str) -> bytes:
    """The body; a server that dribbles is cut off at the deadline."""
    parts: List[bytes] = []
    size = 0
    while True:
        part = answer.read1(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES or time.monotonic() > deadline:
            raise Unavailable(f"{shown} takes too long or says too much ({size} bytes)")
