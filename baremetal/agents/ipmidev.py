"""The BMC of this machine, asked from inside through /dev/ipmi0: its address, its MAC.

linux/ipmi.h (ioctl interface), IPMI 2.0 §22.24 Get Channel Info, §23.2 Get LAN Configuration Parameters.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
from typing import Any, Callable, Dict, Optional

_APP, _TRANSPORT = 0x06, 0x0C
_CHANNEL_INFO, _LAN_GET = 0x42, 0x02
_LAN_MEDIUM = 4  # 802.3
PARAM_IP, PARAM_MAC, PARAM_IPV6_STATIC, PARAM_IPV6_DYNAMIC = 3, 5, 56, 59
TIMEOUT_S = 2.0
Ask = Callable[[int, int, bytes], bytes]  # (netfn, command, data) -> data behind a completion code of 0


class _Address(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("channel", ctypes.c_short), ("lun", ctypes.c_ubyte)]


class _Message(ctypes.Structure):
    _fields_ = [
        ("netfn", ctypes.c_ubyte), ("cmd", ctypes.c_ubyte), ("length", ctypes.c_ushort), ("data", ctypes.c_void_p),
    ]  # fmt: skip


class _Request(ctypes.Structure):
    _fields_ = [
        ("address", ctypes.c_void_p), ("address_length", ctypes.c_uint), ("id", ctypes.c_long), ("message", _Message),
    ]  # fmt: skip


class _Answer(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int), ("address", ctypes.c_void_p), ("address_length", ctypes.c_uint), ("id", ctypes.c_long),
        ("message", _Message),
    ]  # fmt: skip


_SEND = 2 << 30 | ctypes.sizeof(_Request) << 16 | ord("i") << 8 | 13  # _IOR
_RECEIVE = 3 << 30 | ctypes.sizeof(_Answer) << 16 | ord("i") << 8 | 11  # _IOWR, truncating


def find(dev: str = "/dev") -> Optional[Dict[str, Any]]:
    """{"bmc_address", "bmc_mac", "bmc_v6address", "channel"} of the first LAN channel, None without a BMC."""
    try:
        fd = os.open(f"{dev}/ipmi0", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return lan(lambda netfn, cmd, data: ask(fd, netfn, cmd, data))
    finally:
        os.close(fd)


def lan(send: Ask) -> Optional[Dict[str, Any]]:
    """The first LAN channel that answers, of 1 to 11."""
    for channel in range(1, 12):
        try:
            info = send(_APP, _CHANNEL_INFO, bytes([channel]))
            if len(info) < 2 or info[1] & 0x7F != _LAN_MEDIUM:
                continue
            return {
                "channel": channel,
                "bmc_address": _ipv4(_parameter(send, channel, PARAM_IP)),
                "bmc_mac": _mac(_parameter(send, channel, PARAM_MAC)),
                "bmc_v6address": _ipv6(send, channel),
            }
        except OSError:
            continue
    return None


def ask(fd: int, netfn: int, cmd: int, data: bytes) -> bytes:
    """One command to the BMC; OSError when it is silent or says no."""
    address = _Address(0x0C, 0x0F, 0)  # IPMI_SYSTEM_INTERFACE_ADDR_TYPE, IPMI_BMC_CHANNEL
    body = ctypes.create_string_buffer(data, max(len(data), 1))
    request = _Request(
        ctypes.addressof(address), ctypes.sizeof(address), 1, _Message(netfn, cmd, len(data), ctypes.addressof(body))
    )
    fcntl.ioctl(fd, _SEND, request)
    if not select.select([fd], [], [], TIMEOUT_S)[0]:
        raise OSError("the BMC does not answer")
    room = ctypes.create_string_buffer(1024)
    answer = _Answer(
        0, ctypes.addressof(address), ctypes.sizeof(address), 0, _Message(0, 0, 1024, ctypes.addressof(room))
    )
    fcntl.ioctl(fd, _RECEIVE, answer)
    got = room.raw[: answer.message.length]
    if not got or got[0]:
        raise OSError(f"completion code 0x{got[0]:02x}" if got else "an empty answer")
    return got[1:]


def _parameter(send: Ask, channel: int, number: int, block: int = 0) -> bytes:
    """Value of a LAN parameter without its revision byte; b"" when the BMC does not have it."""
    try:
        return send(_TRANSPORT, _LAN_GET, bytes([channel, number, block, 0]))[1:]
    except OSError:
        return b""


def _ipv4(raw: bytes) -> Optional[str]:
    return ".".join(str(b) for b in raw[:4]) if len(raw) >= 4 and any(raw[:4]) else None


def _mac(raw: bytes) -> Optional[str]:
    return ":".join(f"{b:02x}" for b in raw[:6]) if len(raw) >= 6 and any(raw[:6]) else None


def _ipv6(send: Ask, channel: int) -> Optional[str]:
    """The first global address: byte 0 set selector, 1 source, 2-17 address (static and dynamic alike)."""
    for number in (PARAM_IPV6_STATIC, PARAM_IPV6_DYNAMIC):
        raw = _parameter(send, channel, number)
        if len(raw) >= 18 and any(raw[2:18]) and raw[2:4] != b"\xfe\x80":
            return socket.inet_ntop(socket.AF_INET6, raw[2:18])
    return None
