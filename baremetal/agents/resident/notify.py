"""Tells systemd that we are up (sd_notify(3)), without its library."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """READY=1 to NOTIFY_SOCKET, if there is one."""
    path = os.environ.pop("NOTIFY_SOCKET", "")  # not for our scripts
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        s.sendto(b"READY=1", address)
