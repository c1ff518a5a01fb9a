"""What scripts of a build may not do to the machine they are built on, root or not.

Capabilities are taken from the phase's bounding set for good; mounts, device
nodes, owners and chroot stay, since elements are made of them. A guard against
mistakes (a `modprobe` or `sysctl -w` that was meant for the image), not a jail.
Imported by stage.py in the namespace: standard library only.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_PR_CAPBSET_DROP = 24  # prctl(2)
# Numbers of linux/capability.h.
TAKEN = {
    12: "net_admin: addresses, routes and firewall of this machine",
    16: "sys_module: its kernel modules",
    17: "sys_rawio: its memory and ports",
    20: "sys_pacct: its accounting",
    22: "sys_boot: its end",
    25: "sys_time: its clock",
    30: "audit_control: its audit rules",
    32: "mac_override: its access rules",
    33: "mac_admin: its access rules",
    34: "syslog: its kernel log",
    38: "perfmon: what its programs do",
    39: "bpf: programs in its kernel",
}


def give_up() -> None:
    """Take them from this process and all it starts; a kernel that does not know one has nothing to take."""
    libc = ctypes.CDLL(None, use_errno=True)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in TAKEN:
        if number <= last:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
