"""Session set-up as the BMC does it: Open Session and RAKP 1-4 (§13.17-13.24).

Each step takes a payload and returns the reply payload; every refusal carries
the status code the specification gives it, so that a client can tell an unknown
user from a wrong password and both from a refused cipher suite.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable

from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import Privilege, Status
from baremetal.wire.ipmi.crypto import SUITES, Suite
from baremetal.wire.ipmi.session import Session
from baremetal.wire.ipmi.users import NAME_SIZE

Random = Callable[[int], bytes]


def choose_suite(payload: bytes, allowed: tuple[int, ...]) -> Suite | None:
    """The suite proposed in an Open Session Request. A zero-length algorithm record leaves the choice to us."""
    chosen: list[int | None] = [None, None, None]
    for kind in range(3):
        record = payload[8 + 8 * kind : 16 + 8 * kind]
        if len(record) < 8 or record[0] != kind:
            return None
        chosen[kind] = record[4] & 0x3F if record[3] else None
    for number in sorted(allowed, reverse=True):
        suite = SUITES[number]
        have = (suite.auth, suite.integrity, suite.confidentiality)
        if all(want is None or want == got for want, got in zip(chosen, have, strict=True)):
            return suite
    return None


def refuse_open(payload: bytes, status: Status) -> bytes:
    """Open Session Response that refuses: no session id follows."""
    return bytes((payload[0], status, 0, 0)) + payload[4:8]


def accept_open(payload: bytes, session: Session) -> bytes:
    """Open Session Response with the session's id and its algorithms."""
    suite = session.suite
    head = bytes((payload[0], Status.OK, session.asked, 0)) + payload[4:8] + struct.pack("<I", session.id)
    algorithms = (suite.auth, suite.integrity, suite.confidentiality)
    return head + b"".join(bytes((kind, 0, 0, 8, number, 0, 0, 0)) for kind, number in enumerate(algorithms))


def new_session(payload: bytes, session_id: int, suite: Suite) -> Session:
    """A half-open session from an Open Session Request."""
    asked = payload[1] & 0x0F or Privilege.ADMIN
    return Session(session_id, struct.unpack_from("<I", payload, 4)[0], suite, min(asked, Privilege.ADMIN))


def rakp1(bmc: Bmc, session: Session, payload: bytes, random: Random) -> bytes:
    """RAKP 1 in, RAKP 2 out."""
    tag = 0 if bmc.quirks.rakp_tag_zero else payload[0]
    remote = struct.pack("<I", session.remote_id)

    def refuse(status: Status) -> bytes:
        return bytes((tag, status, 0, 0)) + remote

    size = payload[27]
    if size > NAME_SIZE or len(payload) < 28 + size:
        return refuse(Status.INVALID_NAME_LENGTH)
    name = payload[28 : 28 + size]
    user = bmc.users.find(name)
    if user is None:
        return refuse(Status.UNAUTHORIZED_NAME)
    wanted = payload[24] & 0x0F
    if wanted > Privilege.ADMIN:
        return refuse(Status.INVALID_ROLE)
    if wanted > user.privilege or wanted > session.asked or user.privilege > Privilege.ADMIN:
        return refuse(Status.UNAUTHORIZED_NAME if bmc.quirks.privilege_0d else Status.UNAUTHORIZED_ROLE)
    again = session.user is user and session.client_random == payload[8:24]
    if not again:  # a repeated RAKP 1 gets the same challenge, or a lost reply would end the login
        session.bmc_random = random(16)
    session.user = user
    session.role = payload[24]
    session.limit = min(wanted or user.privilege, user.privilege)
    session.client_random = payload[8:24]
    key = _password_key(bmc, user.key)
    code = session.suite.exchange_code(
        key, *_ids(session), session.client_random, session.bmc_random, _guid(bmc), _role(session)
    )
    session.derive(session.suite.exchange_code(bmc.kg.ljust(20, b"\0") if bmc.kg else key, *_sik_parts(session)))
    return bytes((tag, Status.OK, 0, 0)) + remote + session.bmc_random + _guid(bmc) + code


def rakp3(bmc: Bmc, session: Session, payload: bytes) -> tuple[bytes | None, bool]:
    """RAKP 3 in; RAKP 4 out and whether the session is now open. No reply when the client gave up."""
    tag = 0 if bmc.quirks.rakp_tag_zero else payload[0]
    remote = struct.pack("<I", session.remote_id)
    if payload[1] != Status.OK:
        return None, False
    if session.user is None:
        return bytes((tag, Status.INVALID_SESSION, 0, 0)) + remote, False
    key = _password_key(bmc, session.user.key)
    expected = session.suite.exchange_code(
        key, session.bmc_random, struct.pack("<I", session.remote_id), _role(session)
    )
    if not hmac.compare_digest(expected, payload[8 : 8 + len(expected)]):
        return bytes((tag, Status.INVALID_INTEGRITY, 0, 0)) + remote, False
    ids = struct.pack("<I", session.id)
    code = session.suite.rakp4_code(session.sik, session.client_random, ids, _guid(bmc))
    return bytes((tag, Status.OK, 0, 0)) + remote + code, True


def _password_key(bmc: Bmc, key: bytes) -> bytes:
    return bytes(b ^ 0x5A for b in key) if bmc.quirks.wrong_password else key


def _guid(bmc: Bmc) -> bytes:
    return bytes(16) if bmc.quirks.guid_zero else bmc.identity.guid


def _ids(session: Session) -> tuple[bytes, bytes]:
    return struct.pack("<I", session.remote_id), struct.pack("<I", session.id)


def _role(session: Session) -> bytes:
    """Role byte, name length and name, as every RAKP code ends."""
    name = session.user.name if session.user else b""
    return bytes((session.role, len(name))) + name


def _sik_parts(session: Session) -> tuple[bytes, bytes, bytes]:
    return session.client_random, session.bmc_random, _role(session)
