"""What the DHCP server tells of its answers: one event per machine and answer, not one per packet. No I/O.

Kinds and bodies are those of protocol/plane.py.
"""

from __future__ import annotations

from typing import Any

from baremetal.model.network import Mode
from baremetal.wire import pxe
from baremetal.wire.dhcp4.directory import Known
from baremetal.wire.dhcp4.templates import Template

AGAIN_S = 30.0  # the same answer to the same machine is told again after this
MOST_MARKS = 80_000  # clients choose what is remembered, so it is bounded
# Anybody on the wire can invent machines. So many things about unknown ones are told at once, then so many a second.
BURST, PER_S = 4000.0, 50.0


class Teller:
    """Collects `events`; remembers what was told lately."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._seen: dict[bytes, tuple[Template, float]] = {}
        self._marks: dict[bytes, float] = {}
        self._left, self._filled, self._untold = BURST, 0.0, 0

    def saw(self, key: bytes, template: Template, known: Known | None, options: dict[int, bytes], now: float) -> None:
        """A machine asked and this is what it is answered."""
        seen = self._seen.get(key)
        # One firmware's DISCOVER and REQUEST may differ in what they ask for: two templates, one answer.
        if seen is not None and now - seen[1] <= AGAIN_S and (seen[0] is template or seen[0].told == template.told):
            return
        if len(self._seen) > MOST_MARKS:
            self._seen.clear()
        self._seen[key] = (template, now)
        if known is None and not self._may(now):
            return
        mac, uuid, told = key.hex(":"), pxe.uuid_text(options.get(97, b"")), template.told
        if known is None and template.boots and template.mode is not Mode.ANYBODY:
            body = {
                "mac": mac,
                "uuid": uuid,
                "arch": told["arch"],
                "loader": told["loader"],
                "network": told["network"],
            }
            self.events.append({"kind": "unknown-seen", "node": None, "body": body})
        node = known.node if known is not None else None
        self.events.append({"kind": "boot-seen", "node": node, "body": {"mac": mac, "uuid": uuid, **told}})

    def remark(
        self, key: bytes, template: Template, decision: str, because: str, known: Known | None, now: float
    ) -> None:
        """Something about one machine's lease that its operator should know."""
        if self._again(key + _but_for_numbers(because), now):
            return
        node = known.node if known is not None else None
        body = {
            "mac": key.hex(":"),
            "uuid": template.client.uuid,
            **template.told,
            "decision": decision,
            "because": because,
        }
        self.events.append({"kind": "boot-seen", "node": node, "body": body})

    def refused(self, key: bytes, what: str, why: str, source: str, now: float) -> None:
        """Input that no machine of ours sends. The same complaint with another number in it is not told again."""
        if not self._again(key + _but_for_numbers(why), now) and self._may(now):
            self.events.append({"kind": "refused", "node": None, "body": {"what": what, "why": why, "source": source}})

    def _may(self, now: float) -> bool:
        """May one more thing about strangers be told? What was left out is told as a number, later."""
        self._left = min(BURST, self._left + max(0.0, now - self._filled) * PER_S)
        self._filled = now
        if self._left < 1:
            self._untold += 1
            return False
        self._left -= 1
        if self._untold:
            detail = f"a flood: {self._untold} things about unknown machines were not told"
            self.events.append({"kind": "serving", "node": None, "body": {"service": "dhcp:flood", "detail": detail}})
            self._untold = 0
        return True

    def _again(self, mark: bytes, now: float) -> bool:
        """Was this told within AGAIN_S?"""
        before = self._marks.get(mark)
        if before is not None and now - before <= AGAIN_S:
            return True
        if len(self._marks) > MOST_MARKS:
            self._marks.clear()
        self._marks[mark] = now
        return False


def _but_for_numbers(text: str) -> bytes:
    """What two complaints share that differ in a count or a size."""
    return text.encode().translate(None, b"0123456789")[:64]
