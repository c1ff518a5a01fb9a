"""Single files: what is there, what would change, stage beside, put in place.

Knows nothing of transactions; transaction.py orders these steps. Staged names
are derived from the target, so that a run that was killed leaves nothing that
the next run does not overwrite.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import List, NamedTuple, Optional

from baremetal.agents.apply.errors import WriteFailed
from baremetal.agents.apply.render import Planned

NEW_MODE = 0o644
STAGED = ".{name}.baremetal-new"


class Change(NamedTuple):
    """One file to be created, changed or removed. Modes and owners are final, None: leave alone."""

    path: str
    kind: str  # "created" | "changed" | "removed"
    body: bytes
    mode: int
    uid: Optional[int]
    gid: Optional[int]
    planned: Optional[Planned]

    @property
    def staged(self) -> str:
        directory, name = os.path.split(self.path)
        return os.path.join(directory, STAGED.format(name=name))


def compare(planned: Planned) -> Optional[Change]:
    """What must happen so that the file is as planned; None when it is."""
    here = _lstat(planned.path)
    rules = planned.control
    if not rules.allow_empty and not planned.body:
        return None if here is None else Change(planned.path, "removed", b"", 0, None, None, planned)
    if here is None:
        return Change(planned.path, "created", planned.body, rules.mode or NEW_MODE, rules.uid, rules.gid, planned)
    if stat.S_ISDIR(here.st_mode):
        raise WriteFailed(f"{planned.path} is a directory", detail=f"template {planned.template} wants a file there")
    if not stat.S_ISREG(here.st_mode) and not stat.S_ISLNK(here.st_mode):
        raise WriteFailed(f"{planned.path} is a device, pipe or socket", detail=f"template {planned.template}")
    # A link is replaced by a file; the file takes over mode and owner of what the link points to.
    before = _stat(planned.path) if stat.S_ISLNK(here.st_mode) else here
    mode = rules.mode or (NEW_MODE if before is None else stat.S_IMODE(before.st_mode))
    uid = rules.uid if rules.uid is not None else (None if before is None else before.st_uid)
    gid = rules.gid if rules.gid is not None else (None if before is None else before.st_gid)
    if before is here and _same(here, planned, mode, uid, gid):
        return None
    return Change(planned.path, "changed", planned.body, mode, uid, gid, planned)


def _same(here: os.stat_result, planned: Planned, mode: int, uid: Optional[int], gid: Optional[int]) -> bool:
    if not stat.S_ISREG(here.st_mode) or stat.S_IMODE(here.st_mode) != mode or here.st_size != len(planned.body):
        return False
    if (uid is not None and uid != here.st_uid) or (gid is not None and gid != here.st_gid):
        return False
    return read(planned.path) == planned.body


def stage(change: Change, made: List[str]) -> None:
    """Write the new version beside the target, durable, with its mode and owner. New directories go to `made`."""
    directory = os.path.dirname(change.path) or "."
    _make_directories(directory, made)
    staged = change.staged
    try:
        remove(staged)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as f:
            f.write(change.body)
            _own(descriptor, change)
            os.fchmod(descriptor, change.mode)
    except OSError as exc:
        remove(staged)
        raise WriteFailed(f"cannot write {change.path}", detail=_reason(exc)) from exc


def _own(descriptor: int, change: Change) -> None:
    now = os.fstat(descriptor)
    uid = change.uid if change.uid is not None and change.uid != now.st_uid else -1
    gid = change.gid if change.gid is not None and change.gid != now.st_gid else -1
    if (uid, gid) != (-1, -1):
        os.fchown(descriptor, uid, gid)


def put(staged: str, path: str) -> None:
    """Rename into place; where that is impossible (a bind-mounted file) write into it."""
    try:
        os.rename(staged, path)
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.EXDEV):
            raise WriteFailed(f"cannot put {path} in place", detail=_reason(exc)) from exc
        _write_over(staged, path)


def _write_over(staged: str, path: str) -> None:
    try:
        with open(staged, "rb") as source, open(path, "r+b") as target:
            target.write(source.read())
            target.truncate()
        remove(staged)
    except OSError as exc:
        raise WriteFailed(f"cannot write {path}", detail=_reason(exc)) from exc


def _make_directories(path: str, made: List[str]) -> None:
    missing = []
    here = path
    while here and not os.path.isdir(here):
        missing.append(here)
        parent = os.path.dirname(here)
        if parent == here:
            break
        here = parent
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError as exc:
            if not os.path.isdir(directory):
                raise WriteFailed(f"{directory} is in the way: a directory belongs there") from exc
            continue
        except OSError as exc:
            raise WriteFailed(f"cannot make directory {directory}", detail=_reason(exc)) from exc
        made.append(directory)


def remove(path: str) -> None:
    """Unlink; nothing there is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as exc:
        raise WriteFailed(f"cannot read {path}", detail=_reason(exc)) from exc


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _lstat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise WriteFailed(f"cannot look at {path}", detail=_reason(exc)) from exc


def _stat(path: str) -> Optional[os.stat_result]:
    try:
        return os.stat(path)
    except OSError:
        return None


def _reason(exc: OSError) -> str:
    return f"{exc.strerror}: {exc.filename}" if exc.filename else str(exc.strerror or exc)
