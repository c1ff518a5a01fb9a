"""The guard before the TCP API: who gets in, as what, and what everybody else is told."""

import asyncio
import base64
import hashlib
import json

import pytest

from baremetal.api import auth
from baremetal.api.auth import ADMIN, OBSERVER, OPERATOR, Accounts, Guard, allowed, check_password, hash_password


@pytest.fixture
def accounts(tmp_path):
    tokens = [{"name": "ci", "role": OPERATOR, "sha256": hashlib.sha256(b"secret").hexdigest()}]
    (tmp_path / "api-tokens.json").write_text(json.dumps(tokens))
    users = [f"ann:{hash_password('pass:word')}:observer", f"bob:{hash_password('b')}", "# remark", "broken", ":x"]
    (tmp_path / "htpasswd").write_text("\n".join(users))
    return Accounts(tmp_path)


async def ask(guard, headers=(), method="GET", path="/api/nodes", source="10.0.0.9"):
    """Status, headers and what the application saw."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "client": (source, 1)}
    await guard(scope, None, send)
    return sent[0]["status"], dict(sent[0]["headers"]), scope


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def bearer(token):
    return [(b"authorization", b"Bearer " + token)]


def basic(text):
    return [(b"authorization", b"Basic " + base64.b64encode(text.encode()))]


CASES = [  # headers, status, who
    ([], 401, None),
    (bearer(b"secret"), 200, "ci"),
    (bearer(b"Secret"), 401, None),
    (bearer(b""), 401, None),
    (basic("ann:pass:word"), 200, "ann"),
    (basic("ann:wrong"), 401, None),
    (basic("nobody:x"), 401, None),
    (basic("bob:b"), 200, "bob"),
    (basic("bob:b\0"), 401, None),
    ([(b"authorization", b"Basic !!!")], 401, None),
    ([(b"authorization", b"Digest x")], 401, None),
    ([(b"authorization", b"Bearer " + b"x" * 5000)], 401, None),
    ([(b"authorization", b"\xff\xfe")], 401, None),
    ([(b"x-baremetal-user", b"root")], 401, None),
]


@pytest.mark.parametrize(("headers", "status", "who"), CASES)
async def test_who_gets_in(accounts, headers, status, who):
    got, answered, scope = await ask(Guard(app, accounts), headers)
    assert (got, scope.get("baremetal.user")) == (status, who)
    if got == 401:
        assert b"www-authenticate" in answered


async def test_nobody_names_himself(accounts):
    _, _, scope = await ask(Guard(app, accounts), [*bearer(b"secret"), (b"X-Baremetal-User", b"root")])
    assert scope["baremetal.user"] == "ci"
    assert not any(k.lower() == b"x-baremetal-user" for k, _ in scope["headers"])


async def test_without_files_nobody_gets_in(tmp_path):
    assert (await ask(Guard(app, Accounts(tmp_path)), bearer(b"secret")))[0] == 401
    (tmp_path / "api-tokens.json").write_text("[{]")
    assert (await ask(Guard(app, Accounts(tmp_path)), bearer(b"secret")))[0] == 401


async def test_a_revoked_token_is_refused_at_once(accounts, tmp_path):
    guard = Guard(app, accounts)
    assert (await ask(guard, bearer(b"secret")))[0] == 200
    (tmp_path / "api-tokens.json").write_text("[]")
    assert (await ask(guard, bearer(b"secret")))[0] == 401


async def test_discovery_and_health_are_open_and_only_to_look(accounts):
    guard = Guard(app, accounts)
    assert (await ask(guard, path="/v1"))[0] == 200
    assert (await ask(guard, path="/v1", method="POST"))[0] == 401
    assert (await ask(guard, path="/api/health"))[0] == 401
    assert (await ask(guard, path="/api/openapi.json"))[0] == 401


async def test_guessing_is_slowed_per_address(accounts):
    guard = Guard(app, accounts)
    for _ in range(auth.FAILURES):
        await ask(guard, bearer(b"x"))
    assert (await ask(guard, bearer(b"secret")))[0] == 429
    assert (await ask(guard, bearer(b"secret"), source="10.0.0.8"))[0] == 200


async def test_many_passwords_at_once(accounts):
    guard = Guard(app, accounts)
    answers = await asyncio.gather(*(ask(guard, basic(f"ann:{w}")) for w in ("pass:word", "no", "pass:word")))
    assert [status for status, _, _ in answers] == [200, 401, 200]


async def test_guesses_at_once_count_one_by_one_and_hold_up_nobody(accounts):
    guard = Guard(app, accounts)
    guesses = [asyncio.create_task(ask(guard, basic(f"ann:wrong{n}"))) for n in range(60)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(90):  # of its own address, and the threads are not all taken
        assert (await ask(guard, basic("bob:b"), source="10.0.0.8"))[0] == 200
    statuses = [status for status, _, _ in await asyncio.gather(*guesses)]
    assert (statuses.count(401), statuses.count(429)) == (auth.FAILURES, 60 - auth.FAILURES)
    assert not guard._turns


def test_an_unknown_user_costs_what_a_known_one_costs(accounts, monkeypatch):
    methods = []
    real = auth.check_password
    monkeypatch.setattr(auth, "check_password", lambda given, wanted: methods.append(wanted[:3]) or real(given, wanted))
    assert accounts.by_password("ann", "x") is None
    assert accounts.by_password("nobody", "x") is None
    assert methods[0] == methods[1]


ROLES = [  # role, method, path, may
    (ADMIN, "POST", "/api/db/backup", True),
    (OPERATOR, "POST", "/api/db/backup", False),
    (OPERATOR, "PUT", "/api/nodes/n1/verbs/deploy", True),
    (OBSERVER, "GET", "/api/nodes", True),
    (OBSERVER, "PUT", "/api/nodes/n1/power", False),
    (OBSERVER, "GET", "/api/nodes/n1/metadata", False),
    (OBSERVER, "GET", "/api/metadata/site", False),
    ("made-up", "GET", "/api/nodes", False),
]


@pytest.mark.parametrize(("role", "method", "path", "may"), ROLES)
def test_roles(role, method, path, may):
    assert allowed(role, method, path) is may


def test_htpasswd_hashes():
    # A test vector of jBCrypt: what `htpasswd -B` writes is the same with the prefix $2y$.
    assert check_password("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe")
    assert check_password("a", "$2y$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe")
    assert check_password("x", hash_password("x"))
    assert not check_password("y", hash_password("x"))
    for weak in (
        "",
        "x",
        "{SHA}C9jQ1DKkkYFEGbfB0DGWjvYgCkc=",
        "$apr1$x$y",
        "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",
        "ab01FAX.bQRSU",
    ):
        assert not check_password("x", weak)
