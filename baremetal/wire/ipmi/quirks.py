"""How a BMC's firmware departs from the specification: vendor habits and injected faults, as data.

Faults of the wire (loss, latency, silence) are the socket's: lab/faults.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Quirks:
    """Each field is off by default; may be changed while the BMC runs.

    `wrong_password`: no password fits. `hang_after_login`: sessions open, every
    command after that is lost. `power_ignored`: power commands are acknowledged
    and not done. `boot_dropped`: boot flags are acknowledged and not kept.
    `boot_persistent_lost`: kept, but one-shot whatever was asked. `efi_lost`: the
    EFI bit is not kept; `efi_once_lost`: it is kept with persistent flags only.
    `busy_rate`: share of commands answered "node busy".
    `rakp_tag_zero`: tag 0 in RAKP 2 and 4 (seen on OpenBMC). `privilege_0d`: answers
    0Dh instead of 0Ah to a role above the user's limit. `no_ping`: ASF
    pings are not answered. `no_suite_list`: Get Channel Cipher Suites is unknown.
    `guid_zero`: the system GUID is all zeros.
    """

    wrong_password: bool = False
    hang_after_login: bool = False
    power_ignored: bool = False
    boot_dropped: bool = False
    boot_persistent_lost: bool = False
    efi_lost: bool = False
    efi_once_lost: bool = False
    busy_rate: float = 0.0
    rakp_tag_zero: bool = False
    privilege_0d: bool = False
    no_ping: bool = False
    no_suite_list: bool = False
    guid_zero: bool = False
