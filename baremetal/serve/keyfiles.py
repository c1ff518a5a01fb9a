"""Key files: from systemd's credentials, else from keys_dir."""

from __future__ import annotations

import os
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import MachineError


def read_key(settings: Settings, name: str) -> bytes:
    """The content of a key file; MachineError names the cure."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    for directory in (credentials, settings.keys_dir):
        if directory and (Path(directory) / name).is_file():
            return (Path(directory) / name).read_bytes()
    raise MachineError(f"key {name} is missing in {settings.keys_dir}", fix="baremetal init")
