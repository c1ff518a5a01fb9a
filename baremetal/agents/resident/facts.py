"""What a report says about the node itself: small, and never secret."""

from __future__ import annotations

import os
import time
from typing import Any, Dict

from baremetal.version import __version__


def facts() -> Dict[str, Any]:
    """Host name, kernel, boot, operating system, clock and uptime in seconds, agent version."""
    system = os.uname()
    return {
        "hostname": system.nodename,
        "kernel": system.release,
        "arch": system.machine,
        "os": _os_name(),
        "boot_id": _line("/proc/sys/kernel/random/boot_id"),
        "uptime_s": float((_line("/proc/uptime").split() or ["0"])[0]),
        "clock": round(time.time(), 1),
        "agent": __version__,
    }


def _os_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return ""


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.readline().strip()
    except OSError:
        return ""
