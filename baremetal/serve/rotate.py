"""New sealing keys: what is sealed with the old ones is sealed with new ones, in one transaction, server down.

    keys/operator.key.new, metadata.key.new      written first
    the database                                 one transaction
    keys/*.key <- *.key.new                      renamed last; the old ones stay as *.key.old

Cut off before the transaction: the .new files are thrown away next time. Cut off
after it: the next run finds that the database opens with the .new keys, and
only renames.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import MachineError
from baremetal.serve.tls import write_private
from baremetal.store import Store, rotation
from baremetal.store.seal import KEY_BYTES, Sealer, key_id

NAMES = ("operator.key", "metadata.key")


@dataclass(frozen=True)
class Rotated:
    """How many sealed texts were sealed anew, and where the old keys are."""

    count: int
    old: list[str]


def rotate(settings: Settings) -> Rotated:
    """MachineError while a server runs, or when keys come from systemd credentials."""
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        raise MachineError("the keys are systemd credentials", fix="rotate them where they are made, server down")
    directory = settings.keys_dir
    old = {name: _read(directory / name) for name in NAMES}
    store = Store.open(settings.database_url)  # refuses while a server has it
    try:
        new = {name: _new(directory / f"{name}.new") for name in NAMES}
        sealers = {key_id(old[name]): (Sealer(old[name]), Sealer(new[name])) for name in NAMES}
        count = store.write_sync(lambda conn: rotation.reseal(conn, sealers))
    finally:
        store.close()
    kept = [_swap(directory / name) for name in NAMES]
    return Rotated(count, kept)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise MachineError(f"cannot read {path}: {exc.strerror}", fix="run as root, after: baremetal init") from exc


def _new(path: Path) -> bytes:
    """The key of an earlier run that was cut off (the database may be sealed with it already), else a new one."""
    if path.exists():
        return _read(path)
    key = os.urandom(KEY_BYTES)
    write_private(path, key)
    _owned(path)
    return key


def _swap(path: Path) -> str:
    kept = path.with_name(f"{path.name}.old")
    os.replace(path, kept)
    os.replace(path.with_name(f"{path.name}.new"), path)
    return str(kept)


def _owned(path: Path) -> None:
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
