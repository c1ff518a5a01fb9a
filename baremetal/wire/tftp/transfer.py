"""One read transfer: datagrams and the time in, datagrams out. Opens no socket.

    transfer = Transfer(blocks, answer, now=0.0)
    transfer.first()                    # the OACK, or the first window
    out = transfer.receive(ack(1), now=0.2)
    transfer.deadline                   # call tick() then
    transfer.outcome                    # None while it runs

What goes out is one slice of DATA packets laid end to end, each `segment`
bytes long but the last.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from baremetal.wire.tftp.blocks import Blocks
from baremetal.wire.tftp.packet import Request, ack, oack

DEFAULT_BLOCK = 512
SMALLEST_BLOCK, LARGEST_BLOCK = 8, 65464  # RFC 2348
MOST_WINDOW = 64
MOST_SLICE = 65_000  # bytes the kernel takes in one segmented send
FIRST_WAIT_S, LONGEST_WAIT_S = 0.3, 5.0  # a lost packet costs a lock-step client the whole wait, so begin short
GIVE_UP_S = 25.0
LIVELY_S = 2.0  # a client that begins anew from the same port has been silent for longer: firmware waits 4 s and more
REPEAT_S = 0.01  # a second duplicate ACK within this asks for nothing new
ACKS = [ack(n) for n in range(65536)]  # block numbers wrap by themselves


class Outcome(enum.Enum):
    """How a transfer ended."""

    DONE = "done"
    PROBED = "probed"  # aborted before the first block: firmware that wanted the size only
    ABORTED = "aborted"
    LOST = "lost"


@dataclass(frozen=True)
class Terms:
    """What was agreed. `wait_s` is the client's timeout option, 0 when it asked for none."""

    blksize: int
    window: int
    wait_s: float
    acknowledge: dict[str, str]


def negotiate(request: Request, size: int, largest_block: int) -> Terms:
    """Options we know and whose value is in range are acknowledged; the rest is passed over (RFC 2347).

    `largest_block`: more than a frame holds is lowered, since firmware does
    not reassemble fragments. `size`: bytes of the file as transferred.
    """
    said: dict[str, str] = {}
    blksize, window, wait_s = DEFAULT_BLOCK, 1, 0.0
    for name, value in request.options.items():
        number = _number(value)
        if number is None:
            continue
        if name == "blksize" and SMALLEST_BLOCK <= number <= LARGEST_BLOCK:
            blksize = min(number, largest_block)
            said[name] = str(blksize)
        elif name == "tsize":
            said[name] = str(size)
        elif name == "timeout" and 1 <= number <= 255:
            wait_s = float(number)
            said[name] = value
        elif name == "windowsize" and 1 <= number <= 65535:
            window = min(number, MOST_WINDOW)
            said[name] = str(window)
    return Terms(blksize, window, wait_s, said)


class Transfer:
    """State of one read. Times are seconds of any clock that only grows."""

    __slots__ = (
        "_answer",
        "_began",
        "_blocks",
        "_burst",
        "_count",
        "_due",
        "_first_wait",
        "_heard",
        "_repeated",
        "_round",
        "_wait",
        "_window",
        "acked",
        "in_parts",
        "outcome",
        "resent",
        "segment",
        "sent",
    )

    def __init__(self, blocks: Blocks, terms: Terms, now: float) -> None:
        self.segment = blocks.blksize + 4
        self.in_parts = terms.window > max(1, MOST_SLICE // self.segment)
        self.acked = 0
        self.sent = 0
        self.resent = 0
        self.outcome: Outcome | None = None
        self._blocks = blocks
        self._count = blocks.count
        self._answer = oack(terms.acknowledge) if terms.acknowledge else b""
        self._window = terms.window
        self._burst = max(1, min(terms.window, MOST_SLICE // self.segment))
        self._first_wait = terms.wait_s or FIRST_WAIT_S
        self._wait = self._first_wait
        self._began = self._heard = now
        self._round = 0.0  # from the last packets out to their ACK
        self._repeated = float("-inf")
        self._due = b"-"  # the ACK of all that was sent; no datagram looks like this one

    @property
    def deadline(self) -> float:
        """When `tick` is due."""
        if self._repeated > self._heard:
            return self._repeated + self._wait
        return self._heard + self._patience()

    @property
    def awaiting_first_ack(self) -> bool:
        """Nothing was heard of the client since its request."""
        return self.acked == 0 and self._heard == self._began

    def lively(self, now: float) -> bool:
        """Did the client say something lately?"""
        return now - self._heard < LIVELY_S

    def first(self) -> bytes:
        """What answers the request."""
        return self._answer or self._send()

    def receive(self, data: bytes, now: float) -> bytes | None:
        """A datagram of the client; what to send, None for nothing."""
        if data == self._due:  # the way nearly every datagram takes
            acked = self.sent
        elif len(data) < 4 or data[0] != 0:
            return None
        elif data[1] == 4:
            number = data[2] << 8 | data[3]
            ahead = (number - self.acked) & 0xFFFF
            if self._answer or not 0 < ahead <= self.sent - self.acked:
                return self._unusual(number, ahead, now)
            acked = self.acked + ahead
        else:
            if data[1] == 5:
                self.outcome = Outcome.ABORTED if self.acked or not self._answer else Outcome.PROBED
            return None
        self.acked = acked
        sent = acked + self._burst
        if sent > self._count:
            if acked >= self._count:
                self.outcome = Outcome.DONE
                return None
            sent = self._count
        self._round = now - self._heard
        self._heard = now
        self.sent = sent
        self._due = ACKS[sent & 0xFFFF]
        return self._blocks.window(acked + 1, sent - acked)

    def tick(self, now: float) -> bytes | None:
        """Call at `deadline`: repeats what was not acknowledged, or gives up."""
        if self.outcome is not None or now < self.deadline:
            return None
        if now - self._heard > GIVE_UP_S:
            self.outcome = Outcome.LOST
            return None
        self.resent += 1
        before = self._wait if self._repeated > self._heard else self._patience()
        self._wait = min(before * 2, max(LONGEST_WAIT_S, self._first_wait))
        self._repeated = now
        return self._answer or self._send()

    def more(self) -> bytes | None:
        """The rest of a window that does not fit one slice; None when it is out."""
        if self._answer or self.sent >= min(self.acked + self._window, self._count):
            return None
        return self._slice(self.sent + 1)

    def _patience(self) -> float:
        """How long an ACK may take: a client that is slow, or one among a thousand, is not asked twice."""
        return max(self._first_wait, min(3 * self._round, LONGEST_WAIT_S))

    def _unusual(self, number: int, ahead: int, now: float) -> bytes | None:
        """An ACK that is not simply the next one."""
        if self._answer:
            if number != 0:
                return None
            self._answer = b""
            return self._go_on(now)
        if ahead != 0:
            return None  # a block not sent yet, or an old duplicate
        # The last ACK again. In lock-step answering it would double every packet from here on (RFC 1123 §4.2.3.1);
        # in a window it says that the first block of the window was lost (RFC 7440 §4).
        if self._window == 1 or now - self._heard < REPEAT_S:
            return None
        self.resent += 1
        return self._go_on(now)

    def _go_on(self, now: float) -> bytes:
        self._heard = now
        return self._send()

    def _send(self) -> bytes:
        return self._slice(self.acked + 1)

    def _slice(self, first: int) -> bytes:
        count = min(self._burst, self.acked + self._window - first + 1)
        self.sent = min(first + count - 1, self._count)
        self._due = ACKS[self.sent & 0xFFFF]
        return self._blocks.window(first, count)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
