"""TLS to BMCs: verified by a CA, or pinned to the certificate seen first.

BMC certificates are mostly self-signed, so the default is what ssh does: note
the fingerprint at the first contact, refuse another one later. The check is part
of the handshake, before a single byte of ours (a password!) is sent.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from dataclasses import dataclass


class PinMismatch(ssl.SSLError):
    """The certificate is another than the pinned one."""


@dataclass
class Pin:
    """SHA-256 of the peer's certificate (DER), hex; None until the first handshake. `certificate`: as last seen."""

    sha256: str | None = None
    certificate: bytes = b""

    def check(self, certificate: bytes) -> None:
        """Learns the first fingerprint; PinMismatch on another one."""
        seen = hashlib.sha256(certificate).hexdigest()
        self.certificate = certificate
        if self.sha256 is None:
            self.sha256 = seen
        elif self.sha256 != seen:
            raise PinMismatch(f"certificate {seen}, pinned {self.sha256}")


def context(verify: str, pin: Pin) -> ssl.SSLContext:
    """`verify`: pin (learn), sha256:<hex> or the hex alone, ca (the system's), none, or the path of a CA file."""
    if verify == "ca":
        return ssl.create_default_context()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify not in ("pin", "none") and not is_fingerprint(verify):
        if not stat.S_ISREG(os.stat(verify).st_mode):
            raise OSError(f"{verify} is no file")  # a pipe would hold up the worker, and its other BMCs, for ever
        made.load_verify_locations(verify)
        return made
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if verify != "none":
        if is_fingerprint(verify):
            pin.sha256 = verify.removeprefix("sha256:").replace(":", "").lower()
        made.sslobject_class = _checked(pin)
    return made


def with_pin(url: str, sha256: object) -> str:
    """The address with a certificate that was seen before written into it, where it leaves that to the first sight."""
    from baremetal.bmc.url import BmcUrl

    if not isinstance(sha256, str) or not is_fingerprint(sha256) or not url.startswith(("redfish", "auto")):
        return url
    parsed = BmcUrl.parse(url)
    if parsed.scheme == "redfish+http" or parsed.options.get("verify", "pin") != "pin":
        return url
    return str(parsed.with_options(verify=f"sha256:{sha256}"))


def is_fingerprint(text: str) -> bool:
    """64 hex digits, with or without `sha256:` and colons."""
    digits = text.removeprefix("sha256:").replace(":", "").lower()
    return len(digits) == 64 and not set(digits) - set("0123456789abcdef")


def _checked(pin: Pin) -> type[ssl.SSLObject]:
    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            pin.check(self.getpeercert(binary_form=True) or b"")

    return Checked
