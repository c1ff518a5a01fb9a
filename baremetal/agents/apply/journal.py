"""The journal of a transaction, on disk: a run that was killed is undone by the next one.

state/undo/<number>/
    entries.json   {"number", "time", "phase": prepared|commit|done, "made": [directories], "files": [Entry…], "note"}
    <index>        the bytes that were there before file <index>, with their mode and owner

`prepared`: only staged copies were written. `commit`: files may have been
renamed. `done`: all is in place; kept so that `agent rollback` can go back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from typing import Any, Dict, List, Optional

from baremetal.agents.apply import files
from baremetal.agents.apply.errors import WriteFailed
from baremetal.agents.apply.files import Change

KEEP = 5  # transactions that can be undone
PREPARED, COMMIT, DONE = "prepared", "commit", "done"


def write_json(path: str, document: Any, *, durable: bool = True) -> None:
    """Replace a file of ours, readable by its owner only. `durable`: not lost when the power goes."""
    staged = f"{path}.new"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as f:
        f.write(json.dumps(document))  # json.dump() would do without the fast encoder
        f.flush()
        if durable:
            os.fsync(descriptor)
    os.rename(staged, path)


def read_json(path: str) -> Optional[Any]:
    """None when it does not exist or is no JSON (a torn write cannot happen, a curious hand can)."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


class Journal:
    """Undo records of one state directory."""

    def __init__(self, state: str) -> None:
        self.directory = os.path.join(state, "undo")
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def numbers(self) -> List[int]:
        return sorted(int(n) for n in os.listdir(self.directory) if n.isdigit())

    def open(self, changes: List[Change], note: str, time_s: float) -> "Record":
        """A new record, with a copy of every file as it is now."""
        numbers = self.numbers()
        number = numbers[-1] + 1 if numbers else 1
        path = os.path.join(self.directory, str(number))
        try:
            os.mkdir(path, 0o700)
            entries = [_save(change, os.path.join(path, str(index))) for index, change in enumerate(changes)]
            document = {"number": number, "time": time_s, "phase": PREPARED, "made": [], "files": entries, "note": note}
            record = Record(path, document)
            record.save()
        except OSError as exc:
            self.drop(number)
            raise WriteFailed(
                f"cannot keep earlier versions in {path}", detail=str(exc), fix="free some space"
            ) from exc
        return record

    def get(self, number: int) -> Optional["Record"]:
        path = os.path.join(self.directory, str(number))
        document = read_json(os.path.join(path, "entries.json"))
        return Record(path, document) if isinstance(document, dict) else None

    def recover(self) -> List[str]:
        """Undo what was begun and never finished; gives the paths that went back."""
        restored: List[str] = []
        for number in reversed(self.numbers()):
            record = self.get(number)
            if record is None:
                self.drop(number)
            elif record.phase != DONE:
                restored += record.undo()
                self.drop(number)
        return restored

    def drop(self, number: int) -> None:
        shutil.rmtree(os.path.join(self.directory, str(number)), ignore_errors=True)

    def prune(self) -> None:
        """Keep the last few finished records."""
        for number in self.numbers()[:-KEEP]:
            self.drop(number)


class Record:
    """One transaction."""

    def __init__(self, path: str, document: Dict[str, Any]) -> None:
        self.path = path
        self.document = document

    @property
    def number(self) -> int:
        return int(self.document["number"])

    @property
    def phase(self) -> str:
        return str(self.document["phase"])

    def advance(self, phase: str, made: Optional[List[str]] = None) -> None:
        self.document["phase"] = phase
        if made is not None:
            self.document["made"] = made
        self.save()

    def save(self) -> None:
        """Only `commit` must outlive a power cut: before it nothing happened, after it undoing is harmless."""
        write_json(os.path.join(self.path, "entries.json"), self.document, durable=self.phase == COMMIT)

    def undo(self) -> List[str]:
        """Every file as it was before; may run twice. Gives the paths touched."""
        touched = []
        for index, entry in enumerate(self.document["files"]):
            files.remove(str(entry["staged"]))
            if self.phase != PREPARED and _restore(entry, os.path.join(self.path, str(index))):
                touched.append(str(entry["path"]))
        for directory in reversed(self.document["made"]):
            with contextlib.suppress(OSError):  # somebody put something there meanwhile
                os.rmdir(directory)
        return touched


def _save(change: Change, copy: str) -> Dict[str, Any]:
    entry: Dict[str, Any] = {"path": change.path, "staged": change.staged, "kind": change.kind, "was": None}
    try:
        before = os.lstat(change.path)
    except OSError:
        return entry
    if stat.S_ISLNK(before.st_mode):
        entry["was"] = {"link": os.readlink(change.path)}
    else:
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as f:
            f.write(files.read(change.path))
        entry["was"] = {"mode": stat.S_IMODE(before.st_mode), "uid": before.st_uid, "gid": before.st_gid}
    return entry


def _restore(entry: Dict[str, Any], copy: str) -> bool:
    path, was = str(entry["path"]), entry["was"]
    try:
        if was is None:
            existed = os.path.lexists(path)
            files.remove(path)
            return existed
        if "link" in was:
            return _restore_link(path, str(was["link"]), str(entry["staged"]))
        if not os.path.exists(copy) and os.path.lexists(path):
            return False  # an earlier undo moved it there
        body = files.read(copy)
        change = Change(path, "changed", body, was["mode"], was["uid"], was["gid"], None)
        try:
            files.stage(change, [])
        except WriteFailed as exc:
            if getattr(exc.__cause__, "errno", 0) not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _move(copy, change)  # no room for another copy: the one we have goes back itself
            return True
        files.put(change.staged, path)
        return True
    except OSError as exc:
        raise WriteFailed(f"cannot put {path} back", detail=str(exc), fix=f"its older version is {copy}") from exc


def _move(copy: str, change: Change) -> None:
    files.remove(change.staged)
    os.chmod(copy, change.mode)
    if change.uid is not None and change.gid is not None and os.geteuid() == 0:
        os.chown(copy, change.uid, change.gid)
    os.rename(copy, change.path)


def _restore_link(path: str, target: str, staged: str) -> bool:
    if os.path.islink(path) and os.readlink(path) == target:
        return False
    os.symlink(target, staged)
    os.rename(staged, path)
    return True
