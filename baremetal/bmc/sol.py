"""Serial over LAN (IPMI 2.0 §15, §24): a machine's serial console through its BMC.

One packet each way may be unacknowledged; the BMC may take only a part of what
it is sent. `SolWindow` keeps these rules without I/O, `SolConsole` moves bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from baremetal.bmc import completion
from baremetal.bmc.faults import BmcBusy, BmcError, BmcProtocol, BmcRefused, BmcTimeout
from baremetal.bmc.link import APP
from baremetal.bmc.rmcp import RmcpLink
from baremetal.wire.ipmi.codes import Payload

SOL_PAYLOAD = 1
ENCRYPT_AND_SIGN = 0xC0
NACK, BREAK = 0x40, 0x10
# Status bits of packets from the BMC (§15.9).
TRANSFER_UNAVAILABLE, DEACTIVATED = 0x20, 0x10
RETRY_S = 1.0
MOST_RETRIES = 8
# A BMC drops a session after 60 s without a command; console data may not count as one.
KEEPALIVE_S = 20.0
# Characters held for a reader that is slower than the line.
MOST_BUFFERED = 1 << 20


@dataclass
class SolWindow:
    """The send and receive rules. `limit`: bytes of characters a packet to the BMC may hold."""

    limit: int
    _seq: int = 0
    _heard_seq: int = 0
    _heard_count: int = 0
    _out: bytearray = field(default_factory=bytearray)
    _flying: bytes = b""
    _break: bool = False
    ended: str = ""

    def put(self, data: bytes) -> None:
        """Queues characters for the machine."""
        self._out += data

    def put_break(self) -> None:
        self._break = True

    @property
    def waiting(self) -> bool:
        """A packet of ours is not acknowledged yet."""
        return self._seq != 0 and bool(self._flying)

    def packet(self) -> bytes | None:
        """The packet to send now: what is flying again, or the next characters; None when there is nothing."""
        if not self._flying:
            if not self._out and not self._break:
                return None
            number = (self._seq % 15) + 1
            operation = BREAK if self._break else 0
            characters = b"" if self._break else bytes(self._out[: self.limit])
            if not self._break:
                del self._out[: self.limit]
            self._break = False
            self._seq = number
            self._flying = bytes((number, 0, 0, operation)) + characters
        return self._flying

    def receive(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """A packet of the BMC: characters that are new, and the acknowledgement to send (None when none is due)."""
        if len(payload) < 4:
            return b"", None
        number, acknowledged, accepted, status = payload[0] & 15, payload[1] & 15, payload[2], payload[3]
        if status & DEACTIVATED:
            self.ended = "the BMC ended the console: somebody else took it over, or it restarts"
        if acknowledged and self._flying and acknowledged == self._seq:
            self._acknowledged(accepted, status)
        if not number:
            return b"", None
        characters = payload[4:]
        fresh = characters if number != self._heard_seq else characters[self._heard_count :]
        self._heard_seq, self._heard_count = number, len(characters)
        return fresh, bytes((0, number, min(len(characters), 255), 0))

    def _acknowledged(self, accepted: int, status: int) -> None:
        characters = self._flying[4:]
        self._flying = b""
        if accepted < len(characters):
            # Partly taken: the rest goes out again under the next number.
            self._out[:0] = characters[accepted:]
        if status & NACK and status & TRANSFER_UNAVAILABLE and not characters:
            self.ended = "the BMC cannot pass characters on"


class SolConsole:
    """A console over an RMCP+ session of its own; closing it frees the payload and the session."""

    def __init__(self, link: RmcpLink) -> None:
        self.link = link
        self.host = link.host
        self._window = SolWindow(64)
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._error: BmcError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open = False

    async def open(self, *, take: bool = False) -> None:
        """Activates the payload. `take`: end another's console first; else BmcBusy names the cause."""
        if take:
            await self.link.command(APP, 0x49, bytes((SOL_PAYLOAD, 1, 0, 0, 0, 0)))
        answer = await self.link.command(APP, 0x48, bytes((SOL_PAYLOAD, 1, ENCRYPT_AND_SIGN, 0, 0, 0)))
        if answer.code == 0x80:
            raise BmcBusy(
                f"{self.host}: its console is in use",
                detail="SOL payload is active in another session",
                fix="say --take to end the other one",
                cause="console",
            )
        if answer.code in (0x81, 0x82, 0x83, 0x84):
            words = {
                0x81: "switched off",
                0x82: "out of sessions",
                0x83: "not with encryption",
                0x84: "not without encryption",
            }
            raise BmcRefused(
                f"{self.host}: no console: {words[answer.code]}",
                detail=f"completion code {answer.code:02X}h to Activate Payload",
                fix="enable Serial over LAN in the BMC's settings",
                cause="console",
            )
        if answer.code:
            raise completion.error(self.host, "open its console", answer.code)
        if len(answer.data) < 12:
            raise BmcProtocol(f"{self.host}: answer too short to Activate Payload", detail=answer.data.hex())
        inbound, _, port, _ = struct.unpack_from("<4H", answer.data, 4)
        if port not in (self.link.talk.port, 0xFFFF, 623):
            raise BmcProtocol(f"{self.host}: console on another port ({port})", detail="not supported")
        self._window = SolWindow(max(1, min(inbound - 4, 255)))
        self._open = True
        self.link.on_sol = self._received
        self._tasks.append(asyncio.create_task(self._keep_alive()))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Characters as they come; ends when closed here, raises BmcError when lost."""
        while True:
            if self._buffer:
                chunk = bytes(self._buffer)
                self._buffer.clear()
                yield chunk
                continue
            if self._error is not None:
                raise self._error
            if not self._open:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def write(self, data: bytes) -> None:
        """Queues characters; they go out as the BMC takes them."""
        self._window.put(data)
        self._pump()

    async def send_break(self) -> None:
        self._window.put_break()
        self._pump()

    def _pump(self) -> None:
        if not self._open or self._window.waiting:
            return
        self._tries = 0
        self._transmit()

    def _transmit(self) -> None:
        packet = self._window.packet()
        if packet is None or not self._open:
            return
        if self._tries >= MOST_RETRIES:
            self._lost(BmcTimeout(f"{self.host}: console characters are not acknowledged", cause="console"))
            return
        self._tries += 1
        try:
            self.link.talk.send(self.link.seal(Payload.SOL, packet))
        except BmcError as exc:
            self._lost(exc)
            return
        self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._transmit)

    def _received(self, payload: bytes) -> None:
        fresh, acknowledgement = self._window.receive(payload)
        if acknowledgement is not None and self.link.keys is not None:
            with contextlib.suppress(BmcError):
                self.link.talk.send(self.link.seal(Payload.SOL, acknowledgement))
        if fresh:
            room = MOST_BUFFERED - len(self._buffer)
            self._buffer += fresh[:room]
            self._arrived.set()
        if self._window.ended:
            self._lost(BmcError(f"{self.host}: console lost", detail=self._window.ended, cause="console-taken"))
        elif not self._window.waiting:
            if self._timer is not None:
                self._timer.cancel()
            self._pump()

    async def _keep_alive(self) -> None:
        session = self.link.keys
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            try:
                await self.link.command(APP, 0x01)
            except BmcError as exc:
                self._lost(exc)
                return
            if self.link.keys is not session:
                self._lost(
                    BmcTimeout(f"{self.host}: the BMC forgot the session", fix="it is opened again", cause="session")
                )
                return

    def _lost(self, error: BmcError) -> None:
        self._open = False
        self._error = self._error or error
        self._arrived.set()

    async def close(self) -> None:
        """Deactivates the payload and logs out; a dead BMC costs two seconds."""
        was_open, self._open = self._open, False
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(BmcError, TimeoutError):
            async with asyncio.timeout(2.0):
                if was_open:
                    await self.link.command(APP, 0x49, bytes((SOL_PAYLOAD, 1, 0, 0, 0, 0)))
                await self.link.close()
        self.link.on_sol = None
        self._arrived.set()
