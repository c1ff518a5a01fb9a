"""System boot options (§28.12-28.14): what an operator set, until the firmware consumes it.

All five bytes of the boot flags are kept as they came. "Valid" dies after 60 s
without a chassis control command, unless parameter 3 says otherwise: many a
node booted from disk because nobody knew of that timer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from baremetal.wire.ipmi.codes import BootDevice

VALID = 0x80
PERSISTENT = 0x40
EFI = 0x20
VALID_TIMER_S = 60.0
_KEEP_WITHOUT_CONTROL = 0x08
SIZES = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 5, 6: 9, 7: 17}
#: Parameters kept as data; 0 is the set-in-progress state and never marked invalid.
FLAGS = 5


@dataclass(frozen=True, slots=True)
class Override:
    """What the next boot is forced to. `raw` are the five flag bytes; `url` comes from Redfish's UefiHttp only."""

    device: BootDevice = BootDevice.NONE
    once: bool = True
    uefi: bool = False
    url: str = ""
    raw: bytes = bytes(5)


@dataclass(slots=True)
class BootOptions:
    """Parameters 0-7. `deadline` is when the valid bit dies, None when no timer runs."""

    values: dict[int, bytes] = field(default_factory=lambda: {n: bytes(size) for n, size in SIZES.items()})
    invalid: set[int] = field(default_factory=set)
    deadline: float | None = None
    url: str = ""

    def set(self, selector: int, data: bytes, now: float) -> None:
        """Keep a parameter's bytes, shorter input padded, and arm the 60 s timer when it makes the flags valid."""
        size = SIZES[selector]
        if selector == 4:
            mask, value = (*data, 0, 0)[:2]
            old = self.values[4][1]
            data = bytes((0, old & ~mask & 0xFF | value & mask))
        self.values[selector] = data[:size].ljust(size, b"\0")
        if selector == FLAGS:
            self.url = ""
            timed = self.values[FLAGS][0] & VALID and not self.values[3][0] & _KEEP_WITHOUT_CONTROL
            self.deadline = now + VALID_TIMER_S if timed else None

    def get(self, selector: int, now: float) -> bytes:
        """A parameter's bytes as they stand now."""
        self._run_timer(now)
        return self.values[selector]

    def commanded(self, now: float) -> None:
        """A chassis control command came: the 60 s timer stops, valid flags wait for the firmware."""
        self._run_timer(now)
        self.deadline = None

    def peek(self, now: float) -> Override:
        """The override as it stands, left in place."""
        self._run_timer(now)
        raw = self.values[FLAGS]
        if not raw[0] & VALID:
            return Override()
        number = raw[1] >> 2 & 0xF
        device = BootDevice(number) if number in set(BootDevice) else BootDevice.NONE
        return Override(device, not raw[0] & PERSISTENT, bool(raw[0] & EFI), self.url, raw)

    def consume(self, now: float) -> Override:
        """What this boot uses: a one-shot override is gone after it, a persistent one stays."""
        override = self.peek(now)
        if override.once:
            self._clear()
        self.deadline = None
        return override

    def order(self, device: BootDevice, *, once: bool, uefi: bool, url: str = "") -> None:
        """Set the override by name, without a timer: the Redfish face's way in."""
        flags = VALID | (0 if once else PERSISTENT) | (EFI if uefi else 0)
        self.values[FLAGS] = bytes((flags if device else 0, device << 2, 0, 0, 0))
        self.deadline = None
        self.url = url

    def _run_timer(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._clear_valid()

    def _clear(self) -> None:
        self.values[FLAGS] = bytes(5)
        self.url = ""

    def _clear_valid(self) -> None:
        raw = self.values[FLAGS]
        self.values[FLAGS] = bytes((raw[0] & ~VALID & 0xFF,)) + raw[1:]
        self.url = ""
