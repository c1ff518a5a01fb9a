"""Microversions as Ironic negotiates them, and errors as Ironic words them. Pure."""

from __future__ import annotations

import json

from baremetal.api.http import JSON_TYPE, Headers, Reply, Scope, header

MINIMUM = (1, 1)
MAXIMUM = (1, 110)
HEADER = "X-OpenStack-Ironic-API-Version"
SERVICE_HEADER = "OpenStack-API-Version"


class Refusal(Exception):
    """An answer that is an error, in Ironic's clothes."""

    def __init__(self, status: int, text: str, code: str = "Client") -> None:
        super().__init__(text)
        self.status, self.text, self.code = status, text, code


def text_of(version: tuple[int, int]) -> str:
    """1.80"""
    return f"{version[0]}.{version[1]}"


def _headers(version: tuple[int, int]) -> Headers:
    named = {
        "X-OpenStack-Ironic-API-Minimum-Version": text_of(MINIMUM),
        "X-OpenStack-Ironic-API-Maximum-Version": text_of(MAXIMUM),
        HEADER: text_of(version),
        SERVICE_HEADER: f"baremetal {text_of(version)}",
        "Vary": f"{HEADER}, {SERVICE_HEADER}",
    }
    return [(name.encode(), value.encode()) for name, value in named.items()]


# The headers of every version, made once: they go with every answer, errors too.
HEADERS = {minor: _headers((1, minor)) for minor in range(MINIMUM[1], MAXIMUM[1] + 1)}
JSON_HEADERS = {minor: [*headers, JSON_TYPE] for minor, headers in HEADERS.items()}


def minor_of(scope: Scope) -> int:
    """The x of the 1.x asked for; 1 when none is. Refusal 406 beyond the range."""
    text = header(scope, b"x-openstack-ironic-api-version")
    if text is None:
        service = header(scope, b"openstack-api-version") or ""
        named = dict(part.split() for part in service.split(",") if len(part.split()) == 2)
        text = named.get("baremetal")
    if text is None:
        return MINIMUM[1]
    if text == "latest":
        return MAXIMUM[1]
    major, dot, minor = text.strip().partition(".")
    if not (dot and major.isascii() and major.isdecimal() and minor.isascii() and minor.isdecimal() and len(text) < 12):
        raise Refusal(406, f"Invalid value for {HEADER} header")
    if not MINIMUM <= (int(major), int(minor)) <= MAXIMUM:
        raise Refusal(
            406,
            f"Version {text} was requested but the requested API version is not supported. "
            f"Acceptable versions are {text_of(MINIMUM)} to {text_of(MAXIMUM)}.",
        )
    return int(minor)


def error(status: int, text: str, code: str = "Client", minor: int = 1) -> Reply:
    """{"error_message": "<json>"}: a JSON text inside JSON, as Ironic's clients expect it."""
    inner = {"faultcode": code, "faultstring": text, "debuginfo": None}
    body = json.dumps({"error_message": json.dumps(inner)}).encode()
    return Reply(status, body, list(JSON_HEADERS[minor]))
