"""One-time nonces: made by the boot plane when it hands out a boot script,
checked by the control plane when the agent says hello.

    nonce = "<serial>.<mac>"   serial: milliseconds since 1970 in hex, growing
    mac   = HMAC-SHA256(nonce_key, "<node>|<boot_id>|<serial>") in hex

`nonce_key` is minted by control for one boot of one node. A later fetch of the
script makes a greater serial, which replaces the earlier one; after hello the
key is gone and nothing is accepted. Valid VALID_S seconds. The instance nonce
of a config drive is made the same way by control itself.
"""

from __future__ import annotations

import hashlib
import hmac

VALID_S = 600


def make(nonce_key: str, node: str, boot_id: str, now_ms: int) -> str:
    """The nonce for a script fetched at `now_ms` (milliseconds since 1970)."""
    serial = f"{now_ms:x}"
    return f"{serial}.{_mac(nonce_key, node, boot_id, serial)}"


def serial_ms(nonce: str) -> int:
    """When it was made, in milliseconds; ValueError when it is no nonce."""
    serial, dot, mac = nonce.partition(".")
    if not dot or len(mac) != 64 or not 1 <= len(serial) <= 16:
        raise ValueError("not a nonce")
    return int(serial, 16)


def verify(nonce: str, nonce_key: str, node: str, boot_id: str) -> bool:
    """Made with this key for this boot? Age and replay are the caller's business."""
    serial, _, mac = nonce.partition(".")
    return hmac.compare_digest(mac.encode(), _mac(nonce_key, node, boot_id, serial).encode())


def _mac(nonce_key: str, node: str, boot_id: str, serial: str) -> str:
    text = f"{node}|{boot_id}|{serial}".encode()
    return hmac.new(bytes.fromhex(nonce_key), text, hashlib.sha256).hexdigest()
