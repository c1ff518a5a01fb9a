"""What a request's conditions ask for (RFC 9110 §13): the whole answer, 304, 412, or a range. Pure.

asked = conditions(headers, '"abc"', modified_s)
asked.status          # 200: go on; 304; 412
asked.with_range      # a Range header counts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Asked:
    """`status` 200, 304 or 412. `with_range`: If-Range is absent, or names what we have."""

    status: int
    with_range: bool = True


def conditions(headers: Mapping[str, str], etag: str, modified_s: int) -> Asked:
    """In the order of RFC 9110 §13.2.2. `etag` with its quotes; dates that cannot be read are passed over."""
    match headers.get("If-Match"), _date(headers.get("If-Unmodified-Since")):
        case str(tags), _ if not _names(tags, etag, weak=False):
            return Asked(412)
        case None, int(since) if modified_s > since:
            return Asked(412)
    match headers.get("If-None-Match"), _date(headers.get("If-Modified-Since")):
        case str(tags), _ if _names(tags, etag, weak=True):
            return Asked(304)
        case None, int(since) if modified_s <= since:
            return Asked(304)
    wanted = headers.get("If-Range", "").strip()
    return Asked(200, wanted in ("", etag) or _date(wanted) == modified_s)


def _names(tags: str, etag: str, *, weak: bool) -> bool:
    """Is this entity tag in the list? The weak comparison disregards W/ (RFC 9110 §8.8.3.2)."""
    if tags.strip() == "*":
        return True
    named = [tag.strip() for tag in tags.split(",")]
    return etag in ([tag.removeprefix("W/") for tag in named] if weak else named)


def _date(text: str | None) -> int | None:
    """An HTTP date as Unix seconds."""
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
