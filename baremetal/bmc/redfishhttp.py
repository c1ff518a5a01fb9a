"""HTTP as Redfish wants it: sessions, ETags, tasks, paging, and its way of saying what went wrong (DSP0266)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import httpx

from baremetal.bmc import redfishsays as says
from baremetal.bmc.faults import BmcError, BmcProtocol, BmcTimeout, BmcUnsupported
from baremetal.bmc.tlspin import Pin, PinMismatch, context
from baremetal.bmc.url import BmcUrl

Doc = dict[str, Any]
ROOT = "/redfish/v1/"
# No Redfish resource we read is near this; a BMC that sends more is cut off.
LARGEST_BODY = 8 * 1024 * 1024
MOST_MEMBERS = 10000
TASK_PAUSE_S = 1.0
_DONE = {"Completed", "Exception", "Killed", "Cancelled", "Interrupted"}


class RedfishHttp:
    """One Redfish service, logged in when first needed."""

    def __init__(self, url: BmcUrl, password: str) -> None:
        self.host = url.netloc
        self.pin = Pin()
        self.timeout_s = url.option_float("timeout_s", 20.0)
        self._user = url.user
        self._password = password
        self._auth = url.options.get("auth", "session")
        self._token: str | None = None
        self._session: str | None = None
        self._login = asyncio.Lock()
        scheme = url.scheme.removeprefix("redfish+")
        verify = self._context(url.options.get("verify", "pin")) if scheme == "https" else False
        self._client = httpx.AsyncClient(
            base_url=f"{scheme}://{url.netloc}",
            verify=verify,
            timeout=httpx.Timeout(self.timeout_s, connect=min(6.0, self.timeout_s)),
            limits=httpx.Limits(max_connections=2),
            headers={"OData-Version": "4.0", "Accept": "application/json", "Accept-Encoding": "gzip, deflate"},
            trust_env=False,
        )

    def _context(self, verify: str) -> ssl.SSLContext:
        try:
            return context(verify, self.pin)
        except OSError as exc:
            raise BmcError(f"{self.host}: CA file {verify} cannot be used", detail=str(exc)) from exc

    async def root(self) -> Doc:
        """The service root: needs no login, proves that Redfish is there."""
        doc, _ = await self._exchange("GET", ROOT, None, {}, authenticated=False)
        if "RedfishVersion" not in doc and "@odata.type" not in doc:
            raise BmcProtocol(f"{self.host}: answers HTTP, but not as Redfish", stage="discovery", cause="no-redfish")
        return doc

    async def get(self, path: str) -> Doc:
        """One resource."""
        return (await self._exchange("GET", path, None, {}))[0]

    async def members(self, path: str) -> AsyncIterator[Doc]:
        """Every member of a collection, page by page; members that are only links are fetched."""
        following: str | None = path
        count, seen = 0, set[str]()
        while following and following not in seen:
            seen.add(following)
            page = await self.get(following)
            for member in page.get("Members") or []:
                count += 1
                if count > MOST_MEMBERS or not isinstance(member, dict):
                    return
                link = member.get("@odata.id")
                yield member if set(member) - {"@odata.id"} or not link else await self.get(str(link))
            following = page.get("Members@odata.nextLink") or page.get("@odata.nextLink")

    async def patch(self, path: str, change: Doc, *, current: Doc | None = None) -> None:
        """Changes a resource under its ETag; read again once when somebody was faster."""
        for attempt in (1, 2):
            known = current if current is not None and attempt == 1 else await self.get(path)
            tag = known.get("@odata.etag")
            try:
                await self._write("PATCH", path, change, {"If-Match": str(tag)} if tag else {})
                return
            except says.Stale as exc:
                if attempt == 2:
                    raise exc.error from exc

    async def post(self, path: str, body: Doc, *, wait: bool = True) -> Doc:
        """An action; waits for its task when it makes one."""
        return await self._write("POST", path, body, {}, wait=wait)

    async def _write(self, method: str, path: str, body: Doc, headers: dict[str, str], *, wait: bool = True) -> Doc:
        doc, response = await self._exchange(method, path, body, headers)
        monitor = response.headers.get("Location")
        if response.status_code == 202 and monitor and wait:
            return await self._task(monitor)
        return doc

    async def _task(self, monitor: str) -> Doc:
        deadline = time.monotonic() + self.timeout_s * 3
        while time.monotonic() < deadline:
            doc, response = await self._exchange("GET", monitor, None, {})
            state = str(doc.get("TaskState", ""))
            if response.status_code != 202 and (not state or state in _DONE):
                if state in ("", "Completed") and doc.get("TaskStatus", "OK") in ("OK", None):
                    return doc
                raise says.task_failed(self.host, doc)
            await asyncio.sleep(TASK_PAUSE_S)
        raise BmcTimeout(f"{self.host}: task not finished within {self.timeout_s * 3:.0f} s", detail=monitor)

    async def _exchange(
        self, method: str, path: str, body: Doc | None, headers: dict[str, str], *, authenticated: bool = True
    ) -> tuple[Doc, httpx.Response]:
        """One request; logs in before it, and again when the session was forgotten."""
        for attempt in (1, 2):
            sent = dict(headers)
            auth = None
            if authenticated:
                auth = await self._credentials(sent)
            response, text = await self._send(method, path, body, sent, auth)
            if response.status_code == 401 and authenticated and self._token and attempt == 1:
                self._token = None
                continue
            break
        if response.status_code >= 400:
            error = says.failed(self.host, method, path, response, text)
            raise error.error if isinstance(error, says.Stale) and method != "PATCH" else error
        return _document(self.host, response, text), response

    async def _credentials(self, headers: dict[str, str]) -> httpx.BasicAuth | None:
        async with self._login:
            if self._auth != "basic" and self._token is None:
                await self._log_in()
        if self._token:
            headers["X-Auth-Token"] = self._token
            return None
        return httpx.BasicAuth(
            self._user.encode("utf-8", "surrogateescape"), self._password.encode("utf-8", "surrogateescape")
        )

    async def _log_in(self) -> None:
        """Makes a session; a service without sessions gets basic authentication, one that refuses us does not."""
        body = {"UserName": self._user, "Password": self._password}
        response, text = await self._send("POST", ROOT + "SessionService/Sessions", body, {}, None)
        if response.status_code in (404, 405, 501):
            self._auth = "basic"
            return
        if response.status_code in (400, 401, 403) and not response.headers.get("X-Auth-Token"):
            raise says.refused_login(self.host, response, text)
        if response.status_code >= 400:
            raise says.failed(self.host, "POST", "Sessions", response, text)
        self._token = response.headers.get("X-Auth-Token")
        if not self._token:
            self._auth = "basic"
            return
        self._session = response.headers.get("Location")

    async def _send(
        self, method: str, path: str, body: Doc | None, headers: dict[str, str], auth: httpx.BasicAuth | None
    ) -> tuple[httpx.Response, bytes]:
        target = self._local(path)
        try:
            async with self._client.stream(method, target, json=body, headers=headers, auth=auth) as response:
                raw = bytearray()  # bytes would be copied for every chunk, and a chunk may be one byte
                async for piece in response.aiter_raw():
                    raw += piece
                    if len(raw) > LARGEST_BODY:
                        raise self._too_large(path)
                text = _unpacked(self.host, response.headers.get("Content-Encoding", ""), bytes(raw))
                if len(text) > LARGEST_BODY:
                    raise self._too_large(path)
                return response, text
        except httpx.TransportError as exc:
            raise says.transport(self.host, self.timeout_s, exc, _pin_failure(exc)) from exc
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise BmcProtocol(f"{self.host}: link or answer cannot be read", detail=str(exc)[:200]) from exc

    def _too_large(self, path: str) -> BmcProtocol:
        return BmcProtocol(f"{self.host}: answer larger than {LARGEST_BODY >> 20} MiB", detail=path[:200])

    def _local(self, path: str) -> str:
        """A link of the BMC, on this very service: never another host, port or scheme, the token goes along."""
        base = self._client.base_url
        try:
            target = httpx.URL(urljoin(str(base), path))
        except (ValueError, httpx.InvalidURL) as exc:
            raise BmcProtocol(f"{self.host}: link cannot be read", detail=f"{path[:200]!r}: {exc}") from exc
        if target.host != base.host:
            raise BmcProtocol(f"{self.host}: BMC links to another host", detail=str(target)[:200])
        return str(base.copy_with(raw_path=target.raw_path))

    async def close(self) -> None:
        """Deletes the session: BMCs have few."""
        session, token = self._session, self._token
        self._session = self._token = None
        with contextlib.suppress(BmcError, TimeoutError):
            if session and token:
                async with asyncio.timeout(2.0):
                    await self._send("DELETE", session, None, {"X-Auth-Token": token}, None)
        await self._client.aclose()


def _unpacked(host: str, encoding: str, raw: bytes) -> bytes:
    """The body, at most one byte more than may be: 8 MiB of gzip can hold 8 GiB, so httpx is not let at it."""
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip" | "deflate" if not raw:
            return raw
        case "gzip" | "x-gzip" | "deflate":
            try:
                return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, LARGEST_BODY + 1)
            except zlib.error as exc:
                raise BmcProtocol(f"{host}: link or answer cannot be read", detail=str(exc)[:200]) from exc
    raise BmcProtocol(f"{host}: answer is encoded as {encoding[:40]!r}, which nobody asked for", stage="command")


def _document(host: str, response: httpx.Response, text: bytes) -> Doc:
    if not text.strip() or response.status_code == 204:
        return {}
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BmcProtocol(f"{host}: answer is not JSON", detail=str(exc)[:200], stage="command") from exc
    if not isinstance(doc, dict):
        raise BmcProtocol(f"{host}: answer is not a JSON object", stage="command")
    if "@odata.etag" not in doc and response.headers.get("ETag"):
        doc["@odata.etag"] = response.headers["ETag"]
    return doc


def _pin_failure(exc: BaseException | None) -> PinMismatch | None:
    while exc is not None:
        if isinstance(exc, PinMismatch):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None


def link(doc: Doc, *names: str) -> str | None:
    """The `@odata.id` under a chain of members, None when it is not there."""
    here: Any = doc
    for name in names:
        if not isinstance(here, dict):
            return None
        here = here.get(name)
    found = here.get("@odata.id") if isinstance(here, dict) else None
    return found if isinstance(found, str) else None


def need(host: str, path: str | None, what: str) -> str:
    """The link, or BmcUnsupported naming what is missing."""
    if path is None:
        raise BmcUnsupported(f"{host}: this Redfish service has no {what}")
    return path
