"""pxe/loaders.toml as a table: which loader for which firmware, and where its file is. Reads no file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from baremetal.errors import UsageError
from baremetal.model.boot import Arch

ROLES = ("ipxe", "shim", "part")


@dataclass(frozen=True)
class Edit:
    """Bytes that one very file (by its digest, hex) is served with: `becomes` for `was` at byte `at`."""

    sha256: str
    at: int
    was: bytes
    becomes: bytes

    @classmethod
    def parse(cls, text: str) -> Edit:
        """From "SHA256 OFFSET WAS BECOMES", numbers in hex; ValueError when it is not that."""
        sha256, at, was, becomes = text.split()
        edit = cls(sha256.lower(), int(at, 16), bytes.fromhex(was), bytes.fromhex(becomes))
        if len(edit.sha256) != 64 or edit.at < 0 or not edit.was or len(edit.was) != len(edit.becomes):
            raise ValueError(text)
        return edit

    def apply(self, data: bytes) -> bytes:
        """The file as it is served; ValueError when it does not hold what it should."""
        end = self.at + len(self.was)
        if data[self.at : end] != self.was:
            raise ValueError(f"no {self.was.hex()} at byte {self.at:#x}")
        return data[: self.at] + self.becomes + data[end:]


@dataclass(frozen=True)
class LoaderFile:
    """One file of the boot tree. `sha256` is hex, or None when any content is accepted.

    With `edit` that one file is served a little changed, any other of this name as it is.
    """

    name: str
    role: str
    path: str
    arch: Arch | None = None
    package: str = ""
    sha256: str | None = None
    edit: Edit | None = None

    @property
    def hint(self) -> str:
        """What to do when the file is missing."""
        return f"apt install {self.package}" if self.package else f"put the file at {self.path}"


class LoaderTable:
    """The parsed table; a later entry of one role and firmware wins over an earlier one."""

    def __init__(self, files: list[LoaderFile]) -> None:
        self._files = {f.name: f for f in files}
        self._by_use = {(f.role, f.arch): f for f in files if f.arch is not None}

    @classmethod
    def parse(cls, text: str) -> LoaderTable:
        """From TOML text; UsageError names the entry that is wrong."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            raise UsageError("loaders.toml is no TOML", detail=str(exc)) from None
        return cls([_entry(name, fields) for name, fields in document.items()])

    def ipxe(self, arch: Arch) -> LoaderFile | None:
        """The iPXE build for this firmware."""
        return self._by_use.get(("ipxe", arch))

    def shim(self, arch: Arch) -> LoaderFile | None:
        """The signed first stage for this firmware."""
        return self._by_use.get(("shim", arch))

    def get(self, name: str) -> LoaderFile | None:
        return self._files.get(name)

    def __iter__(self) -> Iterator[LoaderFile]:
        return iter(self._files.values())

    def __len__(self) -> int:
        return len(self._files)


def _entry(name: str, fields: object) -> LoaderFile:
    if not isinstance(fields, dict):
        raise UsageError(f'loaders.toml: {name!r} is no table; write ["{name}"] above its fields')
    unknown = set(fields) - {"role", "arch", "package", "path", "sha256", "edit"}
    if unknown:
        raise UsageError(f"loaders.toml [{name}]: unknown {', '.join(sorted(unknown))}")
    bad = [key for key, value in fields.items() if not isinstance(value, str)]
    if bad:
        raise UsageError(f"loaders.toml [{name}]: {', '.join(bad)} must be text")
    if "/" in name or name.startswith("."):
        raise UsageError(f"loaders.toml [{name}]: a name has no slash and does not begin with a dot")
    role = fields.get("role", "")
    if role not in ROLES:
        raise UsageError(f"loaders.toml [{name}]: role {role!r}", fix=f"one of {', '.join(ROLES)}")
    if not fields.get("path", "").startswith("/"):
        raise UsageError(f"loaders.toml [{name}]: path must be absolute")
    try:
        arch = Arch(fields["arch"]) if "arch" in fields else None
    except ValueError:
        raise UsageError(f"loaders.toml [{name}]: arch {fields['arch']!r}", fix=f"one of {', '.join(Arch)}") from None
    if role != "part" and arch is None:
        raise UsageError(f"loaders.toml [{name}]: role {role} needs arch")
    try:
        edit = Edit.parse(fields["edit"]) if "edit" in fields else None
    except ValueError:
        raise UsageError(f"loaders.toml [{name}]: edit is not SHA256 OFFSET WAS BECOMES in hex") from None
    return LoaderFile(name, role, fields["path"], arch, fields.get("package", ""), fields.get("sha256"), edit)
