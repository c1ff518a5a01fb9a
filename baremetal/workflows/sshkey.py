"""An SSH key pair from a seed, the same text every time.

`cryptography` writes OpenSSH's private format with random check numbers; a
document that holds one would be new at every look. So it is written here
(openssh/PROTOCOL.key).
"""

from __future__ import annotations

import base64
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TYPE = b"ssh-ed25519"


def openssh_pair(comment: str, seed: bytes) -> dict[str, str]:
    """{"private": as in ~/.ssh/id_ed25519, "public": one line}; `seed` has 32 bytes."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    line = _text(TYPE) + _text(public)
    check = seed[:4]  # says only whether decryption went well, and nothing is encrypted
    inner = check + check + line + _text(seed + public) + _text(comment.encode())
    inner += bytes(range(1, 1 + -len(inner) % 8))
    outer = b"openssh-key-v1\0" + _text(b"none") + _text(b"none") + _text(b"") + struct.pack(">I", 1)
    body = base64.b64encode(outer + _text(line) + _text(inner)).decode()
    lines = [body[i : i + 70] for i in range(0, len(body), 70)]
    private = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])
    return {"private": private, "public": f"{TYPE.decode()} {base64.b64encode(line).decode()} {comment}"}


def _text(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw
