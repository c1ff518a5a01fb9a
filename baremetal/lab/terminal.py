"""A terminal on a machine's console socket: raw keys in, bytes out, Ctrl-] ends it."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from baremetal.errors import NotFound
from baremetal.lab.console import near

ESCAPE = b"\x1d"


def attach(path: Path) -> None:
    """Join the console until Ctrl-] or its end. Without a terminal: what comes goes out, stdin goes in."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            with near(path) as short:
                sock.connect(short)
        except OSError as exc:
            raise NotFound(f"no console at {path}", detail=str(exc), fix="baremetal lab status") from exc
        if sys.stdin.isatty():
            print(f"[{path.parent.name}: Ctrl-] ends]", file=sys.stderr)
            saved = termios.tcgetattr(0)
            tty.setraw(0)
            try:
                _carry(sock)
            finally:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
        else:
            _carry(sock)


def _carry(sock: socket.socket) -> None:
    sources: list[int] = [sock.fileno(), 0]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if sock.fileno() in ready:
            data = sock.recv(4096)
            if not data:
                return
            os.write(1, data)
        if 0 in ready:
            keys = os.read(0, 1024)
            if not keys:
                sources.remove(0)
            elif ESCAPE in keys:
                return
            else:
                sock.sendall(keys)
