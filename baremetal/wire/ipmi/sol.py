"""Serial over LAN (§15): one line, one packet in flight each way, numbered 1-15, acknowledged, repeated.

Sans-I/O: payloads in, payloads out, and the time of the next repetition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RETRY_S = 0.5
RETRIES = 7
CHUNK = 200
BACKLOG = 64 * 1024

NACK = 0x40
BREAK = 0x10
DEACTIVATED = 0x10
OVERRUN = 0x08
FLUSH_OUT = 0x01


@dataclass(slots=True)
class Line:
    """The BMC's end of an activated SOL payload. `deadline` is when `tick` wants to be called, or None.

    `typed` collects what the console typed; whoever owns the line takes it.
    `dead` is set when the console did not acknowledge seven repetitions.
    """

    session_id: int
    typed: bytearray = field(default_factory=bytearray)
    deadline: float | None = None
    dead: bool = False
    _queue: bytearray = field(default_factory=bytearray)
    _pending: bytes = b""
    _pending_flags: int = 0
    _seq: int = 0
    _tries: int = 0
    _seq_in: int = 0
    _overrun: bool = False

    def output(self, data: bytes, now: float) -> list[bytes]:
        """The machine printed something: payloads to send now. Beyond 64 KiB the oldest is lost, and told so."""
        self._queue += data
        if len(self._queue) > BACKLOG:
            del self._queue[: len(self._queue) - BACKLOG]
            self._overrun = True
        return self._next(now)

    def receive(self, payload: bytes, now: float) -> list[bytes]:
        """A SOL payload from the console: payloads to send back."""
        if len(payload) < 4:
            return []
        seq, ack, accepted, operation = payload[0] & 0xF, payload[1] & 0xF, payload[2], payload[3]
        out: list[bytes] = []
        if seq:
            if seq != self._seq_in:  # else our acknowledgement was lost: say it again
                self._seq_in = seq
                self.typed += payload[4:]
            out.append(bytes((0, seq, min(len(payload) - 4, 255), 0)))
        if operation & FLUSH_OUT:
            self._queue.clear()
        if self._pending and ack == self._seq:
            out += self._acknowledged(accepted, bool(operation & NACK), now)
        return out

    def tick(self, now: float) -> list[bytes]:
        """Repeat what was not acknowledged in time."""
        if self.deadline is None or now < self.deadline:
            return []
        self._tries += 1
        if self._tries > RETRIES:
            self.dead, self.deadline, self._pending = True, None, b""
            return []
        self.deadline = now + RETRY_S
        return [self._packet()]

    def farewell(self) -> bytes:
        """Tells the console that somebody else deactivated the payload."""
        return bytes((0, 0, 0, DEACTIVATED))

    def _acknowledged(self, accepted: int, refused: bool, now: float) -> list[bytes]:
        if refused:
            self.deadline = now + RETRY_S
            return []
        # What it did not take goes out again, in front of the rest.
        self._queue[:0] = self._pending[accepted:]
        self._pending, self.deadline = b"", None
        return self._next(now)

    def _next(self, now: float) -> list[bytes]:
        if self._pending or not self._queue:
            return []
        self._pending = bytes(self._queue[:CHUNK])
        del self._queue[:CHUNK]
        self._pending_flags = OVERRUN if self._overrun else 0
        self._overrun = False
        self._seq = self._seq % 15 + 1
        self._tries, self.deadline = 0, now + RETRY_S
        return [self._packet()]

    def _packet(self) -> bytes:
        return bytes((self._seq, 0, 0, self._pending_flags)) + self._pending
