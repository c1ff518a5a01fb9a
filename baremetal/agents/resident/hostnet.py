"""What is on the machine's interfaces now, and taking away what an earlier configuration left there.

By the program `ip`; where there is none, nothing is known and nothing is taken away.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Dict, List, Set

SYS = "/sys/class/net"


def clear(before: Dict[str, str], after: Dict[str, str]) -> None:
    """Devices of `before` that are gone or other in `after` go; addresses of every interface of both go."""
    for name, text in before.items():
        if name.endswith(".netdev") and after.get(name) != text:
            for device in _values(text, "Name"):
                _ip("link", "delete", "dev", device)
    for device in sorted(interfaces({**before, **after}) | interfaces(before)):
        _ip("addr", "flush", "dev", device, "scope", "global")


def configured(texts: Dict[str, str]) -> bool:
    """Has every interface the fixed addresses it shall have?"""
    shown = _ip("-o", "addr", "show")
    wanted = [address for text in texts.values() for address in _values(text, "Address")]
    return all(f" {address} " in shown for address in wanted) and " tentative" not in shown


def interfaces(texts: Dict[str, str]) -> Set[str]:
    """Names of the interfaces that these .network files match, of those that exist."""
    here = {name: _address(name) for name in _names()}
    found = set()
    for name, text in texts.items():
        if name.endswith(".network"):
            match = text.partition("[Match]")[2].partition("[")[0]
            named = set(_values(match, "Name"))
            macs = {m.lower() for key in ("MACAddress", "PermanentMACAddress") for m in _values(match, key)}
            found |= {device for device, mac in here.items() if device in named or mac in macs}
    return found


def _names() -> List[str]:
    try:
        return [name for name in os.listdir(SYS) if name != "lo"]
    except OSError:
        return []


def _address(name: str) -> str:
    try:
        with open(os.path.join(SYS, name, "address"), encoding="ascii") as f:
            return f.read().strip().lower()
    except OSError:
        return ""


def _values(text: str, key: str) -> List[str]:
    return re.findall(rf"^{key}=(.+)$", text, re.M)


def _ip(*words: str) -> str:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
