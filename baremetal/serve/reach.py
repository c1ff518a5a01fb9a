"""Can a machine on this wire fetch what it was told to boot? Asks as firmware would: by TFTP, by HTTP. Touches nothing.

found = tftp("10.0.0.1", "snponly.efi", interface="eth1")
found.ok, found.brief        # True, "TFTP 10.0.0.1: snponly.efi, 284672 bytes, 1.3 ms"
"""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from baremetal.serve.sockets import bind_to_device
from baremetal.wire.tftp import packet

TRIES, WAIT_S = 3, 1.0


@dataclass(frozen=True)
class Reach:
    """One attempt. `fix`: what to look at when it failed."""

    ok: bool
    brief: str
    fix: str = ""


def boot_file(server: str, file: str, interface: str = "") -> Reach:
    """What DHCP named: a URL, or a name on this TFTP server."""
    return http_get(file, interface) if file.startswith("http://") else tftp(server, file, interface)


def tftp(server: str, name: str, interface: str = "", port: int = 69) -> Reach:
    """Ask for the file with its size, and hang up before the first block: firmware does so too."""
    where = f"TFTP {server}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if interface:
            bind_to_device(sock, interface)
        sock.settimeout(WAIT_S)
        started = time.monotonic()
        for _ in range(TRIES):
            try:
                sock.sendto(packet.request(name, options={"tsize": "0", "blksize": "1468"}), (server, port))
                data, source = sock.recvfrom(2048)
            except TimeoutError:
                continue
            except OSError as exc:
                fix = "is the server's TFTP up? ss -ulpn 'sport = :69' there; is this host on that network?"
                return Reach(False, f"{where}: {exc.strerror}", fix)
            spent_ms = (time.monotonic() - started) * 1000
            if data[1:2] == bytes((packet.ERROR,)):
                text = data[4:].split(b"\0")[0].decode("ascii", "replace")
                return Reach(False, f"{where}: {name}: {text}", "baremetal doctor names loaders that are not installed")
            sock.sendto(packet.error(packet.NOT_DEFINED, "a probe"), source)
            return Reach(True, f"{where}: {name}, {_size(data)}{spent_ms:.1f} ms")
    fix = "a firewall between? UDP 69 there, and its high ports back, must be open"
    return Reach(False, f"{where}: no answer to {TRIES} requests for {name}", fix)


def http_get(url: str, interface: str = "") -> Reach:
    """HEAD of this URL."""
    parts = urlsplit(url)
    started = time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TRIES * WAIT_S)
    try:
        connection.sock = _connect(parts.hostname or "", parts.port or 80, interface)
        connection.request("HEAD", parts.path or "/")
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as exc:
        fix = "is baremetal serve running there? a firewall between? TCP 8080 and 8443 must be open"
        return Reach(False, f"HTTP {parts.netloc}: {exc}", fix)
    finally:
        connection.close()
    spent_ms = (time.monotonic() - started) * 1000
    said = f"HTTP {parts.netloc}: {parts.path or '/'}, {answer.status} {answer.reason}, {spent_ms:.1f} ms"
    return Reach(answer.status < 400, said, "" if answer.status < 400 else "baremetal doctor")


def _connect(host: str, port: int, interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if interface:
            bind_to_device(sock, interface)
        sock.settimeout(TRIES * WAIT_S)
        sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _size(oack: bytes) -> str:
    """The size that an OACK names."""
    words = oack[2:].lower().split(b"\0")
    return f"{words[words.index(b'tsize') + 1].decode('ascii', 'replace')} bytes, " if b"tsize" in words else ""
