"""Secrets at rest: AES-256-GCM, bound to the place they belong to.

    v1:<key id>:<nonce base64>:<ciphertext base64>

The additional data names owner and field, so a ciphertext copied to another
node does not open. Two sealers exist: one for operator secrets, one for node
metadata (ARCHITECTURE: two keys).
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from baremetal.errors import BaremetalError
from baremetal.secrets import Secret

KEY_BYTES = 32


class SealBroken(BaremetalError):
    """A stored secret does not open: wrong key, moved or damaged."""

    code = "seal-broken"


class Sealer:
    """Seals with the first key, opens with any of them (rotation)."""

    def __init__(self, *keys: bytes) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
        self._keys = {key_id(key): AESGCM(key) for key in keys}
        self._first = key_id(keys[0])

    def seal(self, secret: Secret | str, owner: str, field: str) -> str:
        """The secret as text to store; opens only for the same owner and field."""
        text = secret.reveal() if isinstance(secret, Secret) else secret
        nonce = os.urandom(12)
        sealed = self._keys[self._first].encrypt(nonce, text.encode(), _aad(owner, field))
        return f"v1:{self._first}:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, owner: str, field: str) -> Secret:
        """What was sealed for this owner and field."""
        try:
            version, key_id, nonce, text = sealed.split(":")
            if version != "v1":
                raise ValueError(version)
            plain = self._keys[key_id].decrypt(base64.b64decode(nonce), base64.b64decode(text), _aad(owner, field))
        except (ValueError, KeyError, InvalidTag) as exc:
            key_id = sealed.split(":")[1] if sealed.count(":") == 3 else "unreadable"
            raise SealBroken(
                f"the stored {field} of {owner} does not open",
                detail=f"{type(exc).__name__}: key id {key_id}",
                fix="put back the key files this database was written with, or set the secret again",
            ) from exc
        return Secret(plain.decode())


def _aad(owner: str, field: str) -> bytes:
    return f"baremetal|{owner}|{field}".encode()


def key_id(key: bytes) -> str:
    """Which key a sealed text needs: 8 hex digits that say nothing of the key."""
    return hashlib.sha256(b"key-id" + key).hexdigest()[:8]
