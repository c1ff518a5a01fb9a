"""Sockets as the boot plane needs them: bound to one interface, deep receive buffers, raw frames."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct

from baremetal.errors import MachineError

SO_BINDTODEVICE = 25
SO_RCVBUFFORCE = 33
SIOCGIFHWADDR = 0x8927
# With the default of 212 kB a thousand machines switched on at once lose a third of their packets.
RECEIVE_BUFFER = 16 << 20


class PortTaken(MachineError):
    """Another program listens there."""

    code = "port-taken"


class NoInterface(MachineError):
    """The named interface does not exist, or we may not use it."""

    code = "interface"


def udp_socket(interface: str | None, address: str, port: int, *, share: bool = False) -> socket.socket:
    """A non-blocking UDP socket that hears one interface only (None: any)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if interface is not None:
            bind_to_device(sock, interface)
        grow_receive_buffer(sock)
        sock.bind((address, port))
    except OSError as exc:
        sock.close()
        raise _explain(exc, interface, address, port) from exc
    except MachineError:
        sock.close()
        raise
    return sock


def bind_to_device(sock: socket.socket, interface: str) -> None:
    """Hear and speak on this interface only."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            raise NoInterface(f"there is no interface {interface}", fix="see: ip link") from exc
        raise NoInterface(
            f"may not bind to interface {interface}", detail=str(exc), fix="run as root or with CAP_NET_RAW"
        ) from exc


def grow_receive_buffer(sock: socket.socket) -> int:
    """As deep as we may; returns what we got, in bytes as the kernel counts them."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:  # without CAP_NET_ADMIN net.core.rmem_max is the limit
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def raw_sender(interface: str) -> socket.socket:
    """Sends Ethernet frames, hears nothing (protocol 0)."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        sock.bind((interface, 0))
    except PermissionError as exc:
        raise MachineError("may not open a raw socket", fix="run as root or with CAP_NET_RAW") from exc
    except OSError as exc:
        raise NoInterface(f"interface {interface}: {exc.strerror}", fix="see: ip link") from exc
    return sock


def hardware_address(interface: str) -> bytes:
    """The interface's MAC."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            raw = fcntl.ioctl(sock.fileno(), SIOCGIFHWADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError as exc:
            raise NoInterface(f"interface {interface}: {exc.strerror}", fix="see: ip link") from exc
    return raw[18:24]


def _explain(exc: OSError, interface: str | None, address: str, port: int) -> MachineError:
    where = f"{address}:{port}" + (f" on {interface}" if interface else "")
    if exc.errno == errno.EADDRINUSE:
        return PortTaken(f"UDP {where} is taken by another program", fix=f"find it: ss -ulpn 'sport = :{port}'")
    if exc.errno in (errno.EACCES, errno.EPERM):
        return MachineError(f"may not listen on UDP {where}", fix="run as root or with CAP_NET_BIND_SERVICE")
    if exc.errno == errno.EADDRNOTAVAIL:
        return MachineError(f"this machine does not have the address {address}", fix="see: ip address")
    return MachineError(f"cannot listen on UDP {where}", detail=str(exc))
