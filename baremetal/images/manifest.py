"""Manifest text and its signature: what a node trusts before it writes a disk.

The signature is over the exact bytes of manifest.json; the public key travels
as 64 hex digits of the raw Ed25519 key.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from pathlib import Path

from baremetal.images.errors import BadImage, ImageCorrupt
from baremetal.model.image import Chunk, Manifest

MAX_MANIFEST = 64 << 20  # bytes


def to_bytes(manifest: Manifest) -> bytes:
    """Canonical JSON: sorted keys, no spaces; what is signed and served."""
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_bytes(raw: bytes) -> Manifest:
    """The manifest in JSON bytes; BadImage when it is not one."""
    if len(raw) > MAX_MANIFEST:
        raise BadImage("manifest is too large")
    try:
        doc = json.loads(raw)
        chunks = tuple(Chunk(int(c["offset"]), int(c["zsize"]), str(c["sha256"])) for c in doc.pop("chunks"))
        known = {name: doc[name] for name in Manifest.__dataclass_fields__ if name in doc}
        known["firmware"] = tuple(known.get("firmware", ("bios", "uefi")))
        return Manifest(**known, chunks=chunks)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadImage("not an image manifest", detail=str(exc)) from exc


def make_key(directory: Path, name: str = "image-signing") -> Path:
    """A new Ed25519 key pair NAME.pem, NAME.pub in `directory`, unless there is one."""
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = directory / f"{name}.pem"
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    public = key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    (directory / f"{name}.pub").write_bytes(public)
    return path


def sign(raw: bytes, key_file: Path) -> str:
    """Base64 text of the Ed25519 signature over `raw`."""
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = ser.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as exc:
        raise BadImage(f"{key_file}: no usable signing key", detail=str(exc), fix="baremetal init makes one") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise BadImage(f"{key_file}: not an Ed25519 key")
    return base64.b64encode(key.sign(raw)).decode()


def public_hex(key_file: Path) -> str:
    """The raw public key of a private key file as 64 hex digits, as the ramdisk wants it."""
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = ser.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw).hex()


def check(raw: bytes, signature: str, public: str) -> None:
    """ImageCorrupt unless `signature` (base64) is over `raw` by the key `public` (64 hex digits)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(base64.b64decode(signature), raw)
    except (InvalidSignature, ValueError) as exc:
        raise ImageCorrupt("the signature does not verify", fix="add the image again with your key") from exc
