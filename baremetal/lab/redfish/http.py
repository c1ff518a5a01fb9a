"""Requests and answers as values, errors as Redfish words them (DSP0266 §8, §9.6). No sockets here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROOT = "/redfish/v1"

Doc = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What came. `path` has no trailing slash, header names are lower case, `now` is Unix seconds."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    now: float = 0.0

    def json(self) -> Doc:
        """The body as an object."""
        try:
            document = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            raise Problem(400, "MalformedJSON", "The request body is no JSON.") from None
        if not isinstance(document, dict):
            raise Problem(400, "UnrecognizedRequestBody", "The request body is no JSON object.")
        return document


@dataclass(frozen=True)
class Answer:
    """What goes back; without a document there is no body."""

    status: int
    document: Doc | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Problem(Exception):
    """An error answer with its message of the Base registry."""

    def __init__(self, status: int, message: str, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.answer = Answer(status, _error(message, text), headers or {})


def missing(path: str) -> Problem:
    """404."""
    return Problem(404, "ResourceMissingAtURI", f"The resource at the URI {path} was not found.")


def bad_value(name: str, value: object) -> Problem:
    """400 for a value that is not in the list."""
    return Problem(400, "PropertyValueNotInList", f"The value {value!r} for the property {name} is not in the list.")


def _error(message: str, text: str) -> Doc:
    info = {
        "@odata.type": "#Message.v1_1_1.Message",
        "MessageId": f"Base.1.8.{message}",
        "Message": text,
        "Severity": "Critical",
        "Resolution": "None.",
    }
    return {"error": {"code": f"Base.1.8.{message}", "message": text, "@Message.ExtendedInfo": [info]}}


def resource(path: str, kind: str, name: str, **properties: Any) -> Doc:
    """A resource's document; `kind` is its versioned schema type."""
    return {"@odata.id": path, "@odata.type": f"#{kind}", "Id": path.rsplit("/", 1)[-1], "Name": name, **properties}


def collection(path: str, kind: str, members: list[str]) -> Doc:
    """A collection of links."""
    return {
        "@odata.id": path,
        "@odata.type": f"#{kind}.{kind}",
        "Name": kind,
        "Members@odata.count": len(members),
        "Members": [{"@odata.id": member} for member in members],
    }


def link(path: str) -> dict[str, str]:
    """A reference."""
    return {"@odata.id": path}


def etag(document: Doc) -> str:
    """A weak tag over the content."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return f'W/"{digest[:16]}"'
