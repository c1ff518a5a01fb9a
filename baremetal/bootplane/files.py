"""Files by HTTP: Range, HEAD, ETag, and the kernel's sendfile, so that bytes never pass through Python.

Only names from the snapshot and the loader table reach this; nothing here makes
a path of what a client sent. A client that takes nothing for STALL_S is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from baremetal.bootplane.conditions import conditions
from baremetal.bootplane.shares import SHARES
from baremetal.bootplane.throttle import Throttle

TLS_BLOCK = 64 << 10  # bytes read at once where sendfile cannot be used
WINDOW = 8 << 20  # bytes handed to sendfile at once: the unit in which a stall is noticed
STALL_S = 60.0
FREELY = Throttle()
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Sent:
    """What left: `complete` when the client has had the file's end."""

    response: web.StreamResponse
    bytes: int
    seconds: float
    complete: bool


@dataclass(frozen=True)
class Span:
    """The part asked for: `first` and `count` in bytes; status 200, 206 or 416."""

    status: int
    first: int
    count: int


def span_of(range_header: str | None, size: int) -> Span:
    """Which bytes a Range header means (RFC 9110 §14). Several ranges, or another unit: the whole file."""
    match = _RANGE.fullmatch(range_header) if range_header else None
    first_text, last_text = match.groups() if match is not None else ("", "")
    if not first_text and not last_text:
        return Span(200, 0, size)
    if len(first_text) > 19 or len(last_text) > 19:
        return Span(416, 0, 0)
    if not first_text:
        count = min(int(last_text), size)
        return Span(206, size - count, count) if count else Span(416, 0, 0)
    first = int(first_text)
    last = min(int(last_text), size - 1) if last_text else size - 1
    if last_text and int(last_text) < first:
        return Span(200, 0, size)  # invalid: ignored, as the RFC says
    return Span(206, first, last - first + 1) if first < size else Span(416, 0, 0)


async def send_file(
    request: web.Request,
    path: Path,
    *,
    etag: str,
    content_type: str = "application/octet-stream",
    throttle: Throttle = FREELY,
) -> Sent:
    """Answer a GET or HEAD with the file, no faster than `throttle` lets it. FileNotFoundError when it is not there."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    quoted = f'"{etag}"'
    with path.open("rb") as file:  # opening is quick: local files that we placed ourselves
        info = os.fstat(file.fileno())
        size, modified_s = info.st_size, int(info.st_mtime)
        asked = conditions(request.headers, quoted, modified_s)
        if asked.status != 200:
            headers = {"ETag": quoted, "Last-Modified": formatdate(modified_s, usegmt=True)}
            return Sent(web.Response(status=asked.status, headers=headers), 0, 0.0, complete=False)
        # Ranges are for GET only (RFC 9110 §14.2).
        wanted = request.headers.get("Range") if asked.with_range and request.method == "GET" else None
        span = span_of(wanted, size)
        response = _head(span, size, quoted, modified_s, content_type)
        if request.method == "HEAD" or span.status == 416:
            if span.status == 416:
                response.content_length = 0
            await response.prepare(request)
            await response.write_eof()
            return Sent(response, 0, 0.0, complete=False)
        await response.prepare(request)
        await _pour(request, response, file, span, throttle)
        await response.write_eof()
    return Sent(response, span.count, loop.time() - started, complete=span.first + span.count == size)


def _head(span: Span, size: int, etag: str, modified_s: int, content_type: str) -> web.StreamResponse:
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": content_type}
    headers["Last-Modified"] = formatdate(modified_s, usegmt=True)
    if span.status == 206:
        headers["Content-Range"] = f"bytes {span.first}-{span.first + span.count - 1}/{size}"
    elif span.status == 416:
        headers["Content-Range"] = f"bytes */{size}"
    response = web.StreamResponse(status=span.status, headers=headers)
    response.content_length = span.count
    return response


async def _pour(
    request: web.Request, response: web.StreamResponse, file: BinaryIO, span: Span, throttle: Throttle
) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    if transport.get_extra_info("sslcontext") is not None:
        await _pour_through_tls(response, file, span)
        return
    with SHARES.member(transport) if not throttle.bytes_s else contextlib.nullcontext():
        await _sendfile(transport, file, span, throttle)


async def _sendfile(transport: asyncio.Transport, file: BinaryIO, span: Span, throttle: Throttle) -> None:
    loop = asyncio.get_running_loop()
    offset, left = span.first, span.count
    while left:
        piece = min(left, throttle.piece(WINDOW))
        await throttle.turn(piece)
        try:
            async with asyncio.timeout(STALL_S):
                sent = await loop.sendfile(transport, file, offset, piece)
        except TimeoutError:
            transport.abort()
            raise ConnectionResetError(f"the client took nothing for {STALL_S:.0f} s") from None
        if sent == 0:  # the file shrank under us: the client must not take this for the whole
            transport.abort()
            raise ConnectionResetError(f"{file.name} is shorter than it was")
        offset += sent
        left -= sent


async def _pour_through_tls(response: web.StreamResponse, file: BinaryIO, span: Span) -> None:
    """TLS has to see every byte. Only manifests and other small files come this way."""
    file.seek(span.first)
    left = span.count
    while left:
        block = file.read(min(left, TLS_BLOCK))
        if not block:
            raise ConnectionResetError(f"{file.name} is shorter than it was")
        async with asyncio.timeout(STALL_S):
            await response.write(block)
        left -= len(block)
