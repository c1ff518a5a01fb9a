"""The boot tree's files: pxe/loaders.toml and pxe/templates read from disk, and names resolved to files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from baremetal.boot.loaders import Edit, LoaderTable
from baremetal.errors import MachineError, UsageError

log = logging.getLogger(__name__)


class LoaderMissing(MachineError):
    """A boot loader is not installed, or is not the one that was agreed."""

    code = "loader-missing"


def pxe_dir() -> Path:
    """`pxe/` of the checkout, or of the installed wheel."""
    here = Path(__file__).resolve().parent.parent
    for candidate in (here / "share" / "pxe", here.parent / "pxe"):
        if (candidate / "loaders.toml").is_file():
            return candidate
    raise MachineError("the pxe directory is missing", fix="install baremetal again")


def read_loaders(directory: Path | None = None) -> LoaderTable:
    """The table as shipped, or of another directory."""
    path = (directory or pxe_dir()) / "loaders.toml"
    try:
        return LoaderTable.parse(path.read_text())
    except OSError as exc:
        raise UsageError(f"cannot read {path}", detail=str(exc)) from exc


def read_templates(directory: Path | None = None) -> dict[str, str]:
    """Template name -> text, of pxe/templates."""
    return {p.name: p.read_text() for p in sorted(((directory or pxe_dir()) / "templates").glob("*.j2"))}


class LoaderTree:
    """The tree that TFTP and HTTP serve: the loaders of the table, and `extra` names beside them."""

    def __init__(self, table: LoaderTable, extra: Mapping[str, bytes | Path] | None = None) -> None:
        self.table = table
        self.extra = dict(extra or {})
        self._checked: dict[tuple[str, int, int], str] = {}
        self._edited: dict[str, bytes] = {}  # by the digest of the file that it was made from

    def get(self, name: str) -> bytes | Path | None:
        """The file of this name; None: no such name. LoaderMissing: known, but not as it should be."""
        if name in self.extra:
            return self.extra[name]
        file = self.table.get(name)
        if file is None:
            return None
        path = Path(file.path)
        if not path.is_file():
            raise LoaderMissing(f"{name}: {path} is not installed", fix=file.hint)
        if file.sha256 is not None and self._digest(path) != file.sha256:
            raise LoaderMissing(
                f"{name}: {path} is not the file that loaders.toml names",
                detail=f"sha256 {self._digest(path)}, expected {file.sha256}",
                fix=f"{file.hint}, or correct sha256 in loaders.toml",
            )
        if file.edit is not None and self._digest(path) == file.edit.sha256:
            return self._edit(file.edit, path)
        return path

    def missing(self) -> dict[str, str]:
        """Loaders that cannot be served, with what to do: for `doctor`."""
        out = {}
        for file in self.table:
            try:
                self.get(file.name)
            except LoaderMissing as exc:
                out[file.name] = exc.fix
        return out

    def _edit(self, edit: Edit, path: Path) -> bytes | Path:
        if edit.sha256 not in self._edited:
            try:
                self._edited[edit.sha256] = edit.apply(path.read_bytes())
            except ValueError as exc:
                log.error("%s is served as it is: %s (loaders.toml)", path, exc)
                return path
        return self._edited[edit.sha256]

    def _digest(self, path: Path) -> str:
        info = path.stat()
        key = (str(path), info.st_mtime_ns, info.st_size)
        if key not in self._checked:
            self._checked[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._checked[key]
