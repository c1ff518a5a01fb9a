"""One virtual BMC as a state machine: a datagram in, datagrams out (§13).

Opens no socket and reads no clock; lab/bmc.py gives it both. Whatever the bytes
are, the answer is a reply or nothing.
"""

from __future__ import annotations

import secrets
import struct

from baremetal.wire.ipmi import handshake, rmcp
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.codes import Completion, NetFn, Payload, Privilege, Status
from baremetal.wire.ipmi.commands import execute, open_to_all
from baremetal.wire.ipmi.commands.context import Context
from baremetal.wire.ipmi.message import Request, build_response, parse_request
from baremetal.wire.ipmi.session import Session
from baremetal.wire.ipmi.sol import Line

_CLOSE = (NetFn.APP, 0x3C)
_HALF_OPEN_S = 15.0
_RAKP1_MIN = 28
_RAKP3_MIN = 8
_OPEN_SIZE = 32


class Server:
    """The protocol side of a BMC. `peer` identifies who sent a datagram; a session stays with its peer.

    What the BMC sends unasked (the serial line) is in `outbox` as (peer, datagram);
    `wake_at` is when `tick` wants to be called for it, or None.
    """

    def __init__(self, bmc: Bmc, random: handshake.Random = secrets.token_bytes) -> None:
        self.bmc = bmc
        self.sessions: dict[int, Session] = {}
        self.outbox: list[tuple[object, bytes]] = []
        self._random = random

    def receive(self, data: bytes, now: float, peer: object = None) -> list[bytes]:
        """Replies to a datagram. `now` is Unix seconds."""
        packet = rmcp.parse(data)
        if isinstance(packet, rmcp.Packet20):
            return self._receive20(packet, now, peer)
        if isinstance(packet, rmcp.Packet15):
            return self._receive15(packet, now)
        if isinstance(packet, rmcp.Ping) and not self.bmc.quirks.no_ping:
            return [rmcp.pong(packet.tag)]
        return []

    def expire(self, now: float) -> None:
        """Forget sessions nobody used: 60 s, half-open ones 15 s."""
        for session in list(self.sessions.values()):
            limit = self.bmc.session_idle_s if session.active else _HALF_OPEN_S
            if now - session.last_seen > limit:
                self.drop(session)

    def drop(self, session: Session) -> None:
        """Close a session without a word."""
        self.sessions.pop(session.id, None)
        if self.bmc.sol is not None and self.bmc.sol.session_id == session.id:
            self.bmc.sol = None

    def drop_all(self) -> None:
        """As after a BMC reset."""
        for session in list(self.sessions.values()):
            self.drop(session)

    # The serial line

    @property
    def wake_at(self) -> float | None:
        """When something on the serial line wants to be repeated."""
        return self.bmc.sol.deadline if self.bmc.sol else None

    def printed(self, data: bytes, now: float) -> None:
        """The machine wrote to its serial port: it goes to whoever activated SOL."""
        if (line := self.bmc.sol) is not None:
            self._send_sol(line, line.output(data, now))

    def tick(self, now: float) -> None:
        """Repeat what the console did not acknowledge; give the line up when it never does."""
        if (line := self.bmc.sol) is not None:
            self._send_sol(line, line.tick(now))
            if line.dead:
                self.bmc.sol = None

    def typed(self) -> bytes:
        """What the console typed since the last call."""
        if (line := self.bmc.sol) is None:
            return b""
        data = bytes(line.typed)
        line.typed.clear()
        return data

    def _send_sol(self, line: Line, payloads: list[bytes]) -> None:
        session = self.sessions.get(line.session_id)
        if session is not None:
            self.outbox += [(session.peer, session.seal(Payload.SOL, p, self._random(16))) for p in payloads]

    def _tell_ousted(self) -> None:
        if (line := self.bmc.sol_ousted) is not None:
            self.bmc.sol_ousted = None
            self._send_sol(line, [line.farewell()])

    # Outside a session

    def _receive15(self, packet: rmcp.Packet15, now: float) -> list[bytes]:
        if packet.auth_type or packet.session_id:
            return []
        reply = self._sessionless(packet.message, now)
        return [rmcp.packet15(reply)] if reply else []

    def _sessionless(self, message: bytes, now: float) -> bytes | None:
        request = parse_request(message)
        if request is None or not open_to_all(request.netfn, request.cmd):
            return None
        return build_response(request, execute(Context(self.bmc, now), request))

    def _receive20(self, packet: rmcp.Packet20, now: float, peer: object) -> list[bytes]:
        if packet.session_id:
            return self._in_session(packet, now, peer)
        payload = packet.payload
        match packet.payload_type:
            case Payload.IPMI:
                reply = self._sessionless(payload, now)
                return [rmcp.packet20(Payload.IPMI, reply)] if reply else []
            case Payload.OPEN_REQUEST if len(payload) >= _OPEN_SIZE:
                return [rmcp.packet20(Payload.OPEN_RESPONSE, self._open(payload, now, peer))]
            case Payload.RAKP1 if len(payload) >= _RAKP1_MIN:
                return self._rakp1(payload, now, peer)
            case Payload.RAKP3 if len(payload) >= _RAKP3_MIN:
                return self._rakp3(payload, now, peer)
        return []

    # Session set-up

    def _open(self, payload: bytes, now: float, peer: object) -> bytes:
        self.expire(now)
        suite = handshake.choose_suite(payload, self.bmc.suites)
        if suite is None:
            return handshake.refuse_open(payload, Status.NO_SUITE)
        if payload[1] & 0x0F > Privilege.ADMIN:
            return handshake.refuse_open(payload, Status.INVALID_ROLE)
        if (again := self._repeated(payload, peer)) is not None:
            return handshake.accept_open(payload, again)
        if len(self.sessions) >= self.bmc.max_sessions:
            return handshake.refuse_open(payload, Status.NO_RESOURCES)
        session = handshake.new_session(payload, self._new_id(), suite)
        session.peer, session.last_seen = peer, now
        self.sessions[session.id] = session
        return handshake.accept_open(payload, session)

    def _repeated(self, payload: bytes, peer: object) -> Session | None:
        """The half-open session a repeated request already made: a lost reply must not cost a slot."""
        remote = struct.unpack_from("<I", payload, 4)[0]
        for session in self.sessions.values():
            if session.remote_id == remote and session.peer == peer and session.user is None:
                return session
        return None

    def _new_id(self) -> int:
        while True:
            number = int.from_bytes(self._random(4), "little")
            if number and number not in self.sessions:
                return number

    def _half_open(self, payload: bytes, now: float, peer: object) -> Session | None:
        session = self.sessions.get(struct.unpack_from("<I", payload, 4)[0])
        if session is None or session.peer != peer:
            return None
        session.last_seen = now
        return session

    def _rakp1(self, payload: bytes, now: float, peer: object) -> list[bytes]:
        session = self._half_open(payload, now, peer)
        if session is None:
            return [rmcp.packet20(Payload.RAKP2, bytes((payload[0], Status.INVALID_SESSION, 0, 0, 0, 0, 0, 0)))]
        if session.active:
            return []
        reply = handshake.rakp1(self.bmc, session, payload, self._random)
        if reply[1] != Status.OK:
            self.drop(session)
        return [rmcp.packet20(Payload.RAKP2, reply)]

    def _rakp3(self, payload: bytes, now: float, peer: object) -> list[bytes]:
        session = self._half_open(payload, now, peer)
        if session is None:
            return [rmcp.packet20(Payload.RAKP4, bytes((payload[0], Status.INVALID_SESSION, 0, 0, 0, 0, 0, 0)))]
        if session.commanded:
            return []
        reply, opened = handshake.rakp3(self.bmc, session, payload)
        if opened:
            session.active = True
            session.privilege = min(Privilege.USER, session.limit)
        elif not session.active:
            self.drop(session)
        return [rmcp.packet20(Payload.RAKP4, reply)] if reply else []

    # Inside a session

    def _in_session(self, packet: rmcp.Packet20, now: float, peer: object) -> list[bytes]:
        session = self.sessions.get(packet.session_id)
        if session is None or not session.active or session.peer != peer:
            return []
        payload = session.open_(packet)
        if payload is None or self.bmc.quirks.hang_after_login:
            return []
        session.last_seen = now
        session.commanded = True
        if packet.payload_type == Payload.SOL:
            line = self.bmc.sol
            if line is not None and line.session_id == session.id:
                self._send_sol(line, line.receive(payload, now))
            return []
        if packet.payload_type != Payload.IPMI:
            return []
        request = parse_request(payload)
        if request is None:
            return []
        answer = self._answer(session, request, now)
        self._tell_ousted()
        return [session.seal(Payload.IPMI, build_response(request, answer), self._random(16))]

    def _answer(self, session: Session, request: Request, now: float) -> bytes:
        rate = self.bmc.quirks.busy_rate
        if rate and self._random(1)[0] < rate * 256:
            return bytes((Completion.NODE_BUSY,))
        if (request.netfn, request.cmd) == _CLOSE:
            return self._close(session, request.data)
        return execute(Context(self.bmc, now, session, self.sessions), request)

    def _close(self, session: Session, data: bytes) -> bytes:
        if len(data) < 4:
            return bytes((Completion.BAD_LENGTH,))
        target = self.sessions.get(struct.unpack_from("<I", data)[0])
        if target is None or (target is not session and session.privilege < Privilege.ADMIN):
            return bytes((Completion.INVALID_SESSION,))
        self.drop(target)
        return bytes((Completion.OK,))
