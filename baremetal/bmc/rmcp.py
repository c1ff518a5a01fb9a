"""Our own IPMI link: RMCP+ over asyncio, thousands of BMCs in one thread.

Logs in at the first command, stays logged in, logs in again when the BMC has
forgotten the session. Proposes cipher suite 17, then 3; never a weaker one.
Every wait has a bound, every failure a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import Awaitable, Callable

from baremetal.bmc import completion, presession, rakp, says
from baremetal.bmc.faults import BmcError, BmcTimeout, BmcUnsupported
from baremetal.bmc.link import Answer, Login, silent
from baremetal.bmc.udp import Conversation, Silence
from baremetal.wire.ipmi import crypto, message, rmcp
from baremetal.wire.ipmi.codes import Payload

PRIVILEGE = {"user": 2, "operator": 3, "administrator": 4}
# A BMC that has answered nothing for so long is called silent.
DISCOVERY_S = 6.0
# The BMC answers "node busy": so often, with growing pauses from this many seconds.
BUSY_TRIES, BUSY_PAUSE_S = 6, 0.1
# An idle session this old may have been forgotten: one unanswered datagram is enough to log in anew.
STALE_S = 25.0


class RmcpLink:
    """One BMC. Commands are taken one at a time."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.host = login.host
        self.talk = Conversation(login.host, login.port)
        self.keys: rakp.Keys | None = None
        self.privilege = 0
        self.on_sol: Callable[[bytes], None] | None = None
        self.gap_s = 0.0  # between two commands, for firmware that wants it
        self._lock = asyncio.Lock()
        self._tag = random.randrange(0, 256, 4)
        self._session_seq = 0
        self._request_seq = 0
        self._seen = 0
        self._used_at = 0.0
        self._suite = 0

    @property
    def cipher(self) -> int | None:
        return self.keys.suite.id if self.keys else None

    async def command(self, netfn: int, command: int, data: bytes = b"", lun: int = 0) -> Answer:
        """One command; a busy BMC is asked again, a lost session is opened again."""
        deadline = time.monotonic() + self.login.timeout_s
        async with self._lock:
            if self.gap_s and (wait := self._used_at + self.gap_s - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            return await _while_busy(lambda: self._command(netfn, command, data, lun, deadline), deadline)

    async def _command(self, netfn: int, command: int, data: bytes, lun: int, deadline: float) -> Answer:
        for attempt in (1, 2, 3):
            await self.log_in(deadline)
            left = deadline - time.monotonic()
            stale = time.monotonic() - self._used_at > STALE_S
            try:
                answer = await self._exchange(netfn, command, data, lun, left, 1 if stale else 2 + attempt)
            except Silence:
                # Forgotten session or dead BMC: the login tells which.
                self.keys = None
                if attempt == 3 or deadline - time.monotonic() < 0.5:
                    break
                continue
            self._used_at = time.monotonic()
            return answer
        raise BmcTimeout(
            f"{self.host}: BMC logged in, then fell silent",
            detail=f"no answer to command {netfn:02X}h/{command:02X}h, {attempt} logins tried",
            fix="if it stays so: baremetal bmc reset, or pull its power",
            cause="after-login",
            stage="command",
        )

    async def _exchange(self, netfn: int, command: int, data: bytes, lun: int, within_s: float, tries: int) -> Answer:
        keys = self.keys
        assert keys is not None
        self._request_seq = (self._request_seq + 1) & 0x3F
        seq = self._request_seq
        body = message.build_request(message.Request(netfn, command, data, lun, seq=seq))

        def accept(datagram: bytes) -> Answer | None:
            packet = rmcp.parse(datagram)
            if not isinstance(packet, rmcp.Packet20) or packet.payload_type != Payload.IPMI:
                return None
            payload = self._unseal(keys, packet)
            return None if payload is None else _answer(payload, netfn, command, seq)

        return await self.talk.ask(lambda: self.seal(Payload.IPMI, body), accept, within_s, tries=tries)

    def seal(self, kind: int, payload: bytes) -> bytes:
        """A packet of the session under its next sequence number."""
        assert self.keys is not None
        self._session_seq = (self._session_seq + 1) & 0xFFFFFFFF or 1
        return self.keys.seal(kind, payload, self._session_seq)

    def _unseal(self, keys: rakp.Keys, packet: rmcp.Packet20) -> bytes | None:
        """The payload when signature and sequence window are right; console data goes to its own reader."""
        if packet.payload_type not in (Payload.IPMI, Payload.SOL):
            return None
        payload = keys.open(packet)
        if payload is None:
            return None
        if packet.seq and self._seen - packet.seq > 16:  # §6.12.12: too old, or a replay
            return None
        self._seen = max(self._seen, packet.seq)
        if packet.payload_type == Payload.SOL and self.on_sol is not None:
            self.on_sol(payload)
        return payload

    def unasked(self, datagram: bytes) -> None:
        """What comes without a question under way: console data."""
        packet = rmcp.parse(datagram)
        if self.keys is not None and isinstance(packet, rmcp.Packet20):
            self._unseal(self.keys, packet)

    async def log_in(self, deadline: float) -> None:
        """Opens a session unless one is open."""
        if self.keys is not None:
            return
        await self.talk.open()
        self.talk.other = self.unasked
        suites = [self.login.cipher] if self.login.cipher is not None else [self._suite] if self._suite else [17, 3]
        levels = (
            [PRIVILEGE[self.login.privilege]]
            if self.login.privilege
            else [self.privilege]
            if self.privilege
            else [4, 3, 2]
        )
        silences = 0
        while True:
            try:
                await self._handshake(suites[0], levels[0], deadline)
                await self._raise_privilege(levels[0], deadline)
                self._suite, self.privilege, self._used_at = suites[0], levels[0], time.monotonic()
                return
            except rakp.Reject as exc:
                self.keys = None
                if exc.status in rakp.NO_SUITE and self._suite and self.login.cipher is None:
                    raise says.downgrade(self.host, self._suite) from exc
                if exc.status in rakp.NO_SUITE and len(suites) > 1 and not exc.ours:
                    suites.pop(0)
                elif exc.status in rakp.NO_PRIVILEGE and len(levels) > 1:
                    levels.pop(0)
                elif exc.status in rakp.STALE or (exc.status == 0x0F and not exc.ours):
                    # A late repetition overtook us: begin again, a bit slower, a few times.
                    silences += 1
                    if silences > 3 or time.monotonic() > deadline:
                        raise says.rejected(self.host, exc, self.login) from exc
                    await asyncio.sleep(random.uniform(0.05, 0.3))
                else:
                    raise says.rejected(self.host, exc, self.login) from exc
            except Silence as exc:
                self.keys = None
                silences += 1
                if silences == 1 and len(suites) > 1 and self.talk.heard_at:
                    suites.reverse()  # some firmware ignores a suite it does not know
                if silences > 3 or time.monotonic() > deadline - 0.1:
                    raise self._went_silent("handshake") from exc

    def _went_silent(self, stage: str) -> BmcError:
        if not self.talk.heard_at:
            return silent(self.host, min(DISCOVERY_S, self.login.timeout_s))
        return says.went_silent(self.host, stage)

    async def _handshake(self, suite: int, level: int, deadline: float) -> None:
        """Open session and RAKP 1 to 4 with one suite and one privilege."""
        self._tag = (self._tag + 4) & 0xFF
        login = self.login
        hand = rakp.Handshake(login.user, login.password, login.kg, crypto.SUITES[suite], level, self._tag)
        await self._step(hand.open_request, hand.open_response, deadline, first=True)
        await self._step(hand.rakp1, hand.rakp2, deadline)
        rakp3 = hand.rakp3()
        keys = await self._step(lambda: rakp3, hand.rakp4, deadline)
        assert isinstance(keys, rakp.Keys)
        self.keys, self._session_seq, self._seen = keys, 0, 0

    async def _step(
        self,
        build: Callable[[], bytes],
        check: Callable[[rmcp.Packet20], object],
        deadline: float,
        *,
        first: bool = False,
    ) -> object:
        def accept(datagram: bytes) -> object | None:
            packet = rmcp.parse(datagram)
            return (check(packet) or None) if isinstance(packet, rmcp.Packet20) else None

        left = deadline - time.monotonic()
        if not first or self.talk.heard_at:
            return await self.talk.ask(build, accept, min(left, 5.0), tries=3)
        try:
            return await self.talk.ask(build, accept, min(left, 2.0), tries=3)
        except Silence:
            await self._discover(min(deadline - time.monotonic(), DISCOVERY_S - 2.0))
            return await self.talk.ask(build, accept, min(deadline - time.monotonic(), 5.0), tries=3)

    async def _discover(self, within_s: float) -> None:
        """Get Channel Authentication Capabilities, outside a session: is there a BMC, and does it speak IPMI 2.0?"""

        got = await presession.ask(self.talk, 0x38, bytes((0x8E, presession.ADMINISTRATOR)), max(0.1, within_s))
        if got is None:
            raise self._went_silent("discovery")
        able = presession.capabilities(got.data) if got.code == 0 else None
        if able is not None and not able.ipmi20:
            raise BmcUnsupported(
                f"{self.host}: BMC does not speak IPMI 2.0",
                detail="it offers IPMI 1.5 only, which sends passwords it cannot protect",
                fix="update its firmware, or use Redfish",
                stage="discovery",
            )

    async def _raise_privilege(self, level: int, deadline: float) -> None:
        def ask() -> Awaitable[Answer]:
            return self._exchange(6, 0x3B, bytes([level]), 0, max(0.1, deadline - time.monotonic()), 4)

        answer = await _while_busy(ask, deadline)
        if answer.code in (0x80, 0x81, 0xD4):
            await self._close_session()
            raise rakp.Reject(0x0A, "privilege")
        if answer.code in completion.BUSY:
            raise completion.error(self.host, "log us in", answer.code)
        if answer.code:
            raise says.no_privilege(self.host, f"completion code {answer.code:02X}h to Set Session Privilege Level")

    async def _close_session(self) -> None:
        if self.keys is None:
            return
        with contextlib.suppress(Silence, BmcError):
            await self._exchange(6, 0x3C, struct.pack("<I", self.keys.their_id), 0, 0.4, 1)
        self.keys = None

    async def close(self) -> None:
        """Frees the BMC's session slot; waits 0.4 s at most."""
        async with self._lock:
            if self.keys is not None:
                await self._close_session()
            self.talk.close()


async def _while_busy(ask: Callable[[], Awaitable[Answer]], deadline: float) -> Answer:
    """The answer, asked for again while the BMC says "node busy"; the last one when it stays so."""
    for attempt in range(BUSY_TRIES):
        answer = await ask()
        if answer.code != 0xC0 or time.monotonic() >= deadline:
            break
        await asyncio.sleep(BUSY_PAUSE_S * 1.6**attempt * random.uniform(0.7, 1.3))
    return answer


def _answer(payload: bytes, netfn: int, command: int, seq: int) -> Answer | None:
    """The answer to our request, or None when it is another's or damaged."""
    if len(payload) < 8 or payload[1] >> 2 != netfn | 1 or payload[5] != command or payload[4] >> 2 != seq:
        return None
    if message.checksum(payload[:2]) != payload[2] or message.checksum(payload[3:-1]) != payload[-1]:
        return None
    return Answer(payload[6], bytes(payload[7:-1]))
