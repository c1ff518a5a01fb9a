"""iPXE error numbers as words: what `http://ipxe.org/2d0c613b` on a console means. Pure.

Layout (iPXE include/errno.h): bits 24-30 the POSIX error in iPXE's own
numbering, 19-23 a disambiguator, 8-18 the source file, 0-7 the platform's code.
"""

from __future__ import annotations

from dataclasses import dataclass

from baremetal.errors import UsageError

# iPXE numbers POSIX errors alphabetically from 1.
_NAMES = tuple(
    """
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF
    EBADMSG EBUSY ECANCELED ECHILD ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK
    EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG EHOSTUNREACH EIDRM
    EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP
    EMFILE EMLINK EMSGSIZE EMULTIHOP ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH
    ENFILE ENOBUFS ENODATA ENODEV ENOENT ENOEXEC ENOLCK ENOLINK
    ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSR ENOSTR ENOSYS ENOTCONN
    ENOTDIR ENOTEMPTY ENOTSOCK ENOTSUP ENOTTY ENXIO EOPNOTSUPP EOVERFLOW
    EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE EROFS ESPIPE
    ESRCH ESTALE ETIME ETIMEDOUT ETXTBSY
    """.split()  # noqa: SIM905 (eighty lines of quotes help nobody)
)

# name: (what happened, what to look at)
_MEANS = {
    "EACCES": (
        "permission denied",
        "the server refused the file, or its certificate is not trusted",
    ),
    "EADDRNOTAVAIL": (
        "no address was configured",
        "no DHCP answer came: cable, VLAN, or the MAC is unknown here: baremetal boot watch",
    ),
    "ECANCELED": (
        "it was cancelled",
        "somebody pressed Ctrl-C, or the firmware's watchdog ended it",
    ),
    "ECONNREFUSED": (
        "the connection was refused",
        "nothing listens there: is baremetal serve running?",
    ),
    "ECONNRESET": (
        "the connection was reset",
        "the server broke off, or a firewall did",
    ),
    "EHOSTUNREACH": (
        "the host cannot be reached",
        "the server's address does not answer ARP: VLAN, address of the interface",
    ),
    "EINVAL": (
        "invalid argument",
        "the script asks for something this iPXE does not know",
    ),
    "EIO": (
        "input/output error",
        "the disk it should boot is empty or not bootable, or the NIC failed",
    ),
    "ENETUNREACH": (
        "the network cannot be reached",
        "no DHCP answer came, or the address has no route to the server",
    ),
    "ENODEV": (
        "no such device",
        "this iPXE has no driver for the NIC: use snponly.efi or undionly.kpxe",
    ),
    "ENOENT": (
        "no such file",
        "the name is not in the boot tree: baremetal boot explain shows what was offered",
    ),
    "ENOEXEC": (
        "not an image it can start",
        "a kernel of another architecture, a BIOS image on UEFI, or an error page in its place",
    ),
    "ENOMEM": (
        "out of memory",
        "the ramdisk is too large for this machine, or for BIOS memory",
    ),
    "ENOTCONN": (
        "the link is down",
        "cable, switch port, or spanning tree without portfast",
    ),
    "ENOTSUP": (
        "not supported",
        "this iPXE lacks the protocol or command: HTTPS for instance",
    ),
    "ENXIO": (
        "no such address or device",
        "the NIC or disk named does not exist",
    ),
    "EOPNOTSUPP": (
        "not supported",
        "this iPXE lacks the protocol or command",
    ),
    "EPERM": (
        "not permitted",
        "secure boot or signature verification refused the image",
    ),
    "EPROTO": (
        "protocol error",
        "the answer was not what the protocol allows",
    ),
    "ETIMEDOUT": (
        "timed out",
        "packets are lost on the way: MTU, firewall, or the server is overloaded",
    ),
}


@dataclass(frozen=True)
class IpxeError:
    """`name` is POSIX, `brief` says it in words, `fix` what to look at."""

    number: int
    name: str
    brief: str
    fix: str


def decode(text: str) -> IpxeError:
    """From "2d0c613b", "0x2d0c613b" or "http://ipxe.org/2d0c613b"."""
    digits = text.strip().rstrip("/").rpartition("/")[2].lower().removeprefix("0x")
    try:
        number = int(digits, 16)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 32 or len(digits) != 8:
        raise UsageError(f"{text!r} is no iPXE error number", fix="eight hex digits, as in http://ipxe.org/2d0c613b")
    posix = number >> 24 & 0x7F
    if not 0 < posix <= len(_NAMES):
        return IpxeError(
            number, f"error {posix}", "an error that this table does not know", f"see https://ipxe.org/{digits}"
        )
    name = _NAMES[posix - 1]
    brief, fix = _MEANS.get(name, (name[1:].lower(), f"see https://ipxe.org/{digits}"))
    return IpxeError(number, name, brief, fix)
