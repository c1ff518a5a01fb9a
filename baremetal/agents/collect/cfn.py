"""The cfn source: resource metadata by DescribeStackResource, AWS query signature version 2 (HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any, Dict, List, Tuple
from urllib.parse import quote, urlsplit

from baremetal.agents.collect.errors import NotConfigured, Unavailable
from baremetal.agents.collect.options import Settings, say
from baremetal.agents.collect.split import Source, split
from baremetal.agents.collect.web import fetch

_METADATA = re.compile(r"<Metadata[^>]*>(.*?)</Metadata>", re.DOTALL)
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}


def cfn(settings: Settings) -> List[Source]:
    """All paths, root keys of the later replacing those of the earlier, then split."""
    url = _address(settings)
    merged: Dict[str, Any] = {}
    for resource, field, sub_path in _paths(settings):
        document = _resource(settings, url, resource, field)
        merged.update(_inside(document, sub_path, resource))
    keys = settings["cfn", "deployment_key"] or settings["", "deployment_key"]
    return split("cfn", merged, keys, say)


def sign(verb: str, url: str, query: Dict[str, str], secret: str) -> str:
    """The signature of a query, AWS signature version 2, in base64."""
    parts = urlsplit(url)
    text = "\n".join([verb, parts.netloc.lower(), parts.path or "/", canonical(query)])
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode("ascii")


def canonical(query: Dict[str, str]) -> str:
    """Sorted by name, percent-encoded as RFC 3986 asks."""
    return "&".join(f"{quote(k, safe='-_.~')}={quote(query[k], safe='-_.~')}" for k in sorted(query))


def _address(settings: Settings) -> str:
    """Where the API is; NotConfigured unless address, stack and both keys are known."""
    url = settings["cfn", "metadata_url"]
    if not url:
        try:
            with open(settings["cfn", "heat_metadata_hint"], encoding="utf-8") as f:
                url = f"{f.read().strip()}/v1/"
        except OSError as exc:
            raise NotConfigured("no cfn.metadata_url") from exc
    for name in ("stack_name", "access_key_id", "secret_access_key"):
        if not settings["cfn", name]:
            raise NotConfigured(f"no cfn.{name}")
    return str(url)


def _paths(settings: Settings) -> List[Tuple[str, str, List[str]]]:
    paths = settings["cfn", "path"] or []
    if not paths:
        raise NotConfigured("no cfn.path")
    found = []
    for path in paths:
        resource, dot, rest = path.partition(".")
        if not dot or not resource or not rest:
            raise NotConfigured(f"cfn.path {path!r} is not Resource.Field")
        field, *sub_path = rest.split(".")
        found.append((resource, field, sub_path))
    return found


def _resource(settings: Settings, url: str, resource: str, field: str) -> Any:
    query = {
        "Action": "DescribeStackResource",
        "StackName": settings["cfn", "stack_name"],
        "LogicalResourceId": resource,
        "AWSAccessKeyId": settings["cfn", "access_key_id"],
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "Version": "2010-05-15",
        "ContentType": "JSON",
    }
    query["Signature"] = sign("GET", url, query, settings["cfn", "secret_access_key"])
    page = fetch(
        f"{url}?{canonical(query)}",
        timeout_s=settings["cfn", "timeout"],
        ca_file=settings["cfn", "ca_certificate"],
    )
    return _metadata_of(page.body.decode("utf-8", "replace"), resource, field)


def _metadata_of(xml: str, resource: str, field: str) -> Any:
    """The field's text, as JSON. Read without an XML parser: nothing in it can be an entity bomb."""
    pattern = (
        _METADATA if field == "Metadata" else re.compile(rf"<{re.escape(field)}[^>]*>(.*?)</{re.escape(field)}>", re.S)
    )
    match = pattern.search(xml)
    if match is None:
        raise Unavailable(f"cfn: the answer for {resource} has no {field}")
    try:
        return json.loads(_unescaped(match[1]))
    except (ValueError, RecursionError) as exc:
        raise Unavailable(f"cfn: {field} of {resource} is not JSON", detail=str(exc)) from exc


def _unescaped(text: str) -> str:
    cdata = re.fullmatch(r"\s*<!\[CDATA\[(.*)\]\]>\s*", text, re.DOTALL)
    return cdata[1] if cdata else re.sub(r"&(#x[0-9a-fA-F]{1,6}|#[0-9]{1,7}|\w{2,4});", _entity, text)


def _entity(match: "re.Match[str]") -> str:
    name = match[1]
    if name.startswith("#"):
        number = int(name[2:], 16) if name[1] == "x" else int(name[1:])
        return chr(number) if number < 0x110000 else ""
    return _ENTITIES.get(name, match[0])


def _inside(document: Any, path: List[str], resource: str) -> Dict[str, Any]:
    for part in path:
        if not isinstance(document, dict) or part not in document:
            raise Unavailable(f"cfn: {'.'.join(path)} is not in the metadata of {resource}")
        document = document[part]
    if not isinstance(document, dict):
        raise Unavailable(f"cfn: the metadata of {resource} is no object")
    return document
