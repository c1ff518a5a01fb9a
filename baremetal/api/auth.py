"""Who may ask what over TCP: tokens and htpasswd, three roles, asked before anything else of the API answers.

The unix socket does not come through here: its file permissions are its guard.
`accounts` holds tokens as SHA-256 and users as crypt(3) hashes (bcrypt and
yescrypt of `htpasswd -B` and Debian's libcrypt); both files are read again when
they change. A file that is absent lets nobody in.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ctypes
import ctypes.util
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baremetal.api import projects

log = logging.getLogger(__name__)

ADMIN, OPERATOR, OBSERVER = "admin", "operator", "observer"
ROLES = (ADMIN, OPERATOR, OBSERVER)
# Answered to anybody: which API is it. Whoever only wants to know that it lives asks for this too.
OPEN = frozenset({"/", "/v1", "/v1/"})
# A look that hands out a token.
LOOKUP = "/v1/lookup"
# Only admin: copies of the database and the accounts themselves.
ADMIN_ONLY = ("/api/db", "/api/accounts", "/api/webhooks", "/api/audit")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CREDENTIAL_MAX = 4096
REMEMBER_S = 60.0  # a password that was right is not hashed again for so long: bcrypt takes 50 ms
HASHES = 2  # at the same time, of all
FAILURES, FAILURES_S = 10, 60.0  # wrong credentials from one address before it has to wait

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Account:
    """Who it is and what they may do; with a project only on nodes that it owns or leases."""

    name: str
    role: str
    project: str | None = None


# Asks the store for (owner, lessee) of a node by id or name; None when there is no such node.
Parties = Callable[[str], tuple[str | None, str | None] | None]


class Accounts:
    """Tokens (tokens.json) and users (htpasswd) below one directory."""

    def __init__(self, directory: Path) -> None:
        self._tokens_file, self._users_file = directory / "api-tokens.json", directory / "htpasswd"
        self._stamp: tuple[int, int] = (-1, -1)
        self._tokens: dict[str, Account] = {}
        self._users: dict[str, tuple[str, Account]] = {}
        self._right: dict[bytes, tuple[float, Account]] = {}

    def by_token(self, token: str) -> Account | None:
        """By the hash of what was sent: takes the same time for every wrong token."""
        self._read()
        return self._tokens.get(hashlib.sha256(token.encode()).hexdigest())

    def remembered(self, name: str, password: str) -> Account | None:
        """Was this password right a moment ago? Costs nothing."""
        self._read()
        known = self._right.get(_mark(name, password))
        return known[1] if known and known[0] > time.monotonic() else None

    def by_password(self, name: str, password: str) -> Account | None:
        """Hashes: call it in a thread."""
        self._read()
        mark = _mark(name, password)
        # An unknown user costs as much as a known one: by the same method, at the same cost.
        wanted, account = self._users.get(name) or (next(iter(self._users.values()), ("",))[0], None)
        if not check_password(password, wanted) or account is None:
            return None
        if len(self._right) > 1000:
            self._right.clear()
        self._right[mark] = (time.monotonic() + REMEMBER_S, account)
        return account

    def _read(self) -> None:
        stamp = (_mtime(self._tokens_file), _mtime(self._users_file))
        if stamp == self._stamp:
            return
        self._tokens, self._users, self._right = _tokens(self._tokens_file), _users(self._users_file), {}
        self._stamp = stamp  # last: a thread that comes meanwhile reads for itself, and refuses nobody it should know


class _Wrong(Exception):
    """A wrong password, counted; `too_many`: it was not even looked at, so many came from this address before it."""

    def __init__(self, *, too_many: bool) -> None:
        super().__init__()
        self.too_many = too_many


class _Turn:
    """Passwords of one address wait for each other."""

    def __init__(self) -> None:
        self.lock, self.waiting = asyncio.Lock(), 0


class Guard:
    """ASGI: lets a request through with scope["baremetal.user"] set, or answers 401, 403 or 429."""

    def __init__(self, app: App, accounts: Accounts, parties: Parties | None = None) -> None:
        self._app, self._accounts, self._parties = app, accounts, parties
        self._failures: dict[str, list[float]] = {}
        self._turns: dict[str, _Turn] = {}
        self._few = asyncio.Semaphore(HASHES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope["headers"] = [(k, v) for k, v in scope["headers"] if k.lower() != b"x-baremetal-user"]
        path, method = scope["path"], scope["method"]
        if path in OPEN and method in SAFE:
            await self._app(scope, receive, send)
            return
        source = str((scope.get("client") or ("?",))[0])
        if self._blocked(source):
            await _refuse(send, 429, "too-many", "too many wrong credentials from this address", "wait a minute")
            return
        try:
            account = await self._who(scope["headers"], source)
            if account is None:
                self._failed(source)
        except _Wrong as exc:
            account = None
            if exc.too_many:
                await _refuse(send, 429, "too-many", "too many wrong credentials from this address", "wait a minute")
                return
        if account is None:
            fix = "a token in BAREMETAL_TOKEN (made by: baremetal api token add NAME), or a user of htpasswd"
            await _refuse(send, 401, "denied", "this API asks for a token or a password", fix)
        elif not allowed(account.role, method, path):
            brief = f"{account.name} is {account.role} and may not {method} {path[:80]}"
            await _refuse(send, 403, "denied", brief, "ask an admin for another role")
        elif (why := self._outside(account, method, path)) is not None:
            await _refuse(send, *why)
        else:
            scope["baremetal.user"], scope["baremetal.role"] = account.name, account.role
            scope["baremetal.project"] = account.project
            await self._app(scope, receive, send)

    def _outside(self, account: Account, method: str, path: str) -> tuple[int, str, str, str] | None:
        """Why an account with a project may not ask this: it is about all nodes, or about somebody else's."""
        if account.project is None:
            return None
        ref = projects.node_in(path)
        if ref is None:
            if projects.filtered(method, path):
                return None
            brief = f"{account.name} belongs to project {account.project}; {method} {path[:80]} is about the whole site"
            return 403, "denied", brief, "ask for nodes of your own"
        found = self._parties(ref) if self._parties else None
        if found is None or account.project not in found:
            return 404, "not-found", f"no node {ref[:80]!r}", "baremetal node list"
        if account.project != found[0] and not projects.lessee_may(method, path):
            return 403, "denied", f"{account.project} leases {ref[:80]}; this is for its owner", "ask the owner"
        return None

    async def _who(self, headers: list[tuple[bytes, bytes]], source: str) -> Account | None:
        value = next((v for k, v in headers if k.lower() == b"authorization"), b"")
        if not value or len(value) > CREDENTIAL_MAX:
            return None
        scheme, _, credential = value.decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            return self._accounts.by_token(credential.strip())
        if scheme.lower() == "basic":
            try:
                text = base64.b64decode(credential.strip(), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return None
            name, _, password = text.partition(":")
            if "\0" in text:
                return None
            return self._accounts.remembered(name, password) or await self._hashed(name, password, source)
        return None

    async def _hashed(self, name: str, password: str, source: str) -> Account:
        """One guess at a time from an address, a few at all: guesses made at once count like others."""
        turn = self._turns.setdefault(source, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock, self._few:
                if self._blocked(source):
                    raise _Wrong(too_many=True)
                found = self._accounts.remembered(name, password)
                found = found or await asyncio.to_thread(self._accounts.by_password, name, password)
                if found is None:
                    self._failed(source)  # before the next one has its turn
                    raise _Wrong(too_many=False)
                return found
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(source, None)

    def _blocked(self, source: str) -> bool:
        now = time.monotonic()
        recent = [at for at in self._failures.get(source, ()) if now - at < FAILURES_S]
        if recent:
            self._failures[source] = recent
        else:
            self._failures.pop(source, None)
        return len(recent) >= FAILURES

    def _failed(self, source: str) -> None:
        if len(self._failures) > 10_000:
            self._failures.clear()
        self._failures.setdefault(source, []).append(time.monotonic())


def _mark(name: str, password: str) -> bytes:
    return hashlib.sha256(f"{name}\0{password}".encode()).digest()


def allowed(role: str, method: str, path: str) -> bool:
    """Observers look (but not at metadata, which may hold secrets), operators act, admins do everything."""
    if role == ADMIN:
        return True
    if path.startswith(ADMIN_ONLY):
        return False
    if role == OPERATOR:
        return True
    return role == OBSERVER and method in SAFE and "/metadata" not in path and not path.startswith(LOOKUP)


_crypt_lock = threading.Lock()


def check_password(password: str, wanted: str) -> bool:
    """Is this the password of a crypt(3) hash? Methods that libcrypt calls weak are refused."""
    if not wanted.startswith(("$2", "$y$", "$6$", "$5$", "$7$", "$gy$")):
        return False
    with _crypt_lock:  # crypt(3) has one static buffer
        got = _crypt()(password.encode(), wanted.encode())
    return got is not None and hmac.compare_digest(got, wanted.encode())


def hash_password(password: str) -> str:
    """A yescrypt (else bcrypt) hash for htpasswd."""
    library = _library()
    gensalt = library.crypt_gensalt
    gensalt.restype, gensalt.argtypes = (
        ctypes.c_char_p,
        [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int],
    )
    for prefix in (b"$y$", b"$2b$"):
        setting = gensalt(prefix, 0, None, 0)
        if setting:
            with _crypt_lock:
                hashed = _crypt()(password.encode(), setting)
            if hashed and not hashed.startswith(b"*"):
                return bytes(hashed).decode()
    raise OSError("libcrypt makes neither yescrypt nor bcrypt hashes")


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")


def _crypt() -> Any:
    function = _library().crypt
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_char_p, ctypes.c_char_p]
    return function


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _tokens(path: Path) -> dict[str, Account]:
    try:
        entries = json.loads(path.read_text())
        return {str(e["sha256"]): _account(e) for e in entries if e["role"] in ROLES}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.error("%s cannot be read; no token is valid: %s", path, exc)
        return {}


def _account(entry: dict[str, Any]) -> Account:
    project = entry.get("project")
    return Account(str(entry["name"]), str(entry["role"]), str(project) if project else None)


def _users(path: Path) -> dict[str, tuple[str, Account]]:
    """Lines user:hash, as `htpasswd -B` writes them, with an optional :role (else operator) and :project behind."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        log.error("%s cannot be read; no password is valid: %s", path, exc)
        return {}
    users = {}
    for line in lines:
        name, _, rest = line.strip().partition(":")
        hashed, role, project = [*rest.split(":"), "", ""][:3]
        role = role or OPERATOR
        if name and hashed and not name.startswith("#") and role in ROLES:
            users[name] = (hashed, Account(name, role, project or None))
    return users


async def _refuse(send: Send, status: int, code: str, brief: str, fix: str) -> None:
    body = json.dumps({"error": {"code": code, "brief": brief, "detail": "", "fix": fix}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    if status == 401:
        headers += [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b'Basic realm="baremetal"')]
    if status == 429:
        headers.append((b"retry-after", b"60"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
