"""Microversions as Ironic negotiates them, and errors as Ironic words them."""

from __future__ import annotations

import json

from fastapi import Request
from fastapi.responses import JSONResponse

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


def headers(version: tuple[int, int]) -> dict[str, str]:
    """On every answer, errors too."""
    return {
        "X-OpenStack-Ironic-API-Minimum-Version": text_of(MINIMUM),
        "X-OpenStack-Ironic-API-Maximum-Version": text_of(MAXIMUM),
        HEADER: text_of(version),
        SERVICE_HEADER: f"baremetal {text_of(version)}",
        "Vary": f"{HEADER}, {SERVICE_HEADER}",
    }


def wanted(request: Request) -> tuple[int, int]:
    """The version asked for; the minimum when none is, Refusal beyond the range."""
    text = request.headers.get(HEADER)
    if text is None:
        service = request.headers.get(SERVICE_HEADER, "")
        named = dict(part.split() for part in service.split(",") if len(part.split()) == 2)
        text = named.get("baremetal")
    if text is None:
        return MINIMUM
    if text == "latest":
        return MAXIMUM
    try:
        major, minor = (int(part) for part in text.split("."))
    except ValueError:
        raise Refusal(406, f"Invalid value for {HEADER} header: {text[:40]}") from None
    if not MINIMUM <= (major, minor) <= MAXIMUM:
        raise Refusal(
            406,
            f"Version {text} was requested but the requested API version is not supported. "
            f"Acceptable versions are {text_of(MINIMUM)} to {text_of(MAXIMUM)}.",
        )
    return major, minor


def error(status: int, text: str, code: str = "Client", version: tuple[int, int] = MINIMUM) -> JSONResponse:
    """{"error_message": "<json>"}: a JSON text inside JSON, as Ironic's clients expect it."""
    inner = {"faultcode": code, "faultstring": text, "debuginfo": None}
    return JSONResponse({"error_message": json.dumps(inner)}, status_code=status, headers=headers(version))
