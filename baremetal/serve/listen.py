"""Sockets and TLS for HTTP, opened while we are root. No web framework: the control process opens its own with it."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

from baremetal.errors import MachineError
from baremetal.serve.ports import taken

BACKLOG = 1024


def bind(address: str, port: int) -> socket.socket:
    """A TCP socket; MachineError says who has the port, or that the address is not ours."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise explain(exc, address, port) from exc
    return sock


def explain(exc: OSError, address: str, port: int, protocol: str = "tcp") -> MachineError:
    """What a failed bind means."""
    if exc.errno == errno.EADDRINUSE:
        return taken(protocol, address, port)
    if exc.errno == errno.EADDRNOTAVAIL:
        return MachineError(
            f"address {address} is on no interface of this machine",
            fix=f"give it to the provisioning interface (ip addr add {address}/24 dev …), or correct `server`",
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return MachineError(
            f"may not listen on {address} port {port}", fix="run as root, or under the shipped systemd unit"
        )
    return MachineError(f"cannot listen on {address} port {port}", detail=str(exc))


def tls_context(directory: Path) -> ssl.SSLContext:
    """TLS with the server's certificate; read while we are still root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
    except (OSError, ssl.SSLError) as exc:
        raise MachineError(
            f"the server certificate in {directory} cannot be used", detail=str(exc), fix="baremetal init"
        ) from exc
    return context
