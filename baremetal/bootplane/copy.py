"""The last snapshot on disk, sealed: it holds what nodes are configured with, passwords among it.

AES-GCM with the key keys/boot.key; the boot process reads the key before it gives
up root, and has no other key.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from baremetal.protocol.plane import Snapshot

_NONCE = 12  # bytes, as AES-GCM wants them
_WHAT = b"baremetal snapshot 1"


class SnapshotCopy:
    """One file. `key` has 32 bytes."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self._cipher = AESGCM(key)

    def read(self) -> tuple[int, Snapshot] | None:
        """Version and snapshot; None when there is none. ValueError or OSError when it cannot be used."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            doc = json.loads(self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], _WHAT))
            return int(doc["version"]), Snapshot.from_json(doc["snapshot"])
        except (InvalidTag, KeyError, TypeError) as exc:
            raise ValueError(f"it is damaged, or of another key ({type(exc).__name__})") from exc

    def write(self, version: int, snapshot: Snapshot) -> None:
        """Replace the file, whole."""
        text = json.dumps({"version": version, "snapshot": snapshot.to_json()}, separators=(",", ":")).encode()
        nonce = os.urandom(_NONCE)
        temporary = self.path.with_name(f".{self.path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(nonce + self._cipher.encrypt(nonce, text, _WHAT))
        temporary.replace(self.path)
