"""Puts planned files in place: all, or none.

compare → save what is there → stage beside the targets → check the staged
copies → rename → (the caller runs its scripts) → finish, or undo. Unchanged
files are not touched. With a state directory every step is journalled, so that
a kill at any point is undone by the next run; without one only errors are.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from typing import Callable, Dict, Iterable, List, Optional

from baremetal.agents.apply import files
from baremetal.agents.apply.errors import CheckFailed
from baremetal.agents.apply.executable import tail
from baremetal.agents.apply.files import Change
from baremetal.agents.apply.journal import COMMIT, DONE, Journal, Record
from baremetal.agents.apply.manifest import Manifest
from baremetal.agents.apply.render import Planned

CHECK_TIMEOUT_S = 60.0
FSYNC_ONE_BY_ONE = 8  # more files than this: one syncfs instead


def changes_for(
    planned: Iterable[Planned], manifest: Optional[Manifest] = None, *, prune: bool = False
) -> List[Change]:
    """What differs from the plan. `prune`: also files of ours that no template wants any more."""
    plan = list(planned)
    changes = []
    for item in plan:
        if manifest is not None and manifest.untouched(item):
            continue
        change = files.compare(item)
        if change is not None:
            changes.append(change)
    if prune and manifest is not None:
        changes += manifest.orphans(plan)
    return changes


class Transaction:
    """One set of changes. Use: stage(), commit(), then finish() or undo()."""

    def __init__(self, changes: List[Change], state: Optional[str] = None, note: str = "") -> None:
        self.changes = changes
        self.made: List[str] = []
        self._kept: Dict[str, "_Memory"] = {}
        self.record: Optional[Record] = None
        self._journal = Journal(state) if state is not None else None
        if self._journal is not None and changes:
            self.record = self._journal.open(changes, note, time.time())

    def stage(self) -> None:
        """Write new versions beside their targets and check them; nothing visible changes."""
        try:
            for change in self.changes:
                if change.kind != "removed":
                    files.stage(change, self.made)
            for change in self.changes:
                if change.planned is not None and change.planned.control.check and change.kind != "removed":
                    check(change.planned.control.check, change)
            if self.record is not None:
                sync([c.staged for c in self.changes if c.kind != "removed"])
        except BaseException:
            self.undo()
            raise

    def commit(self) -> None:
        """Rename all into place; on any failure everything goes back."""
        try:
            if self.record is not None:
                self.record.advance(COMMIT, self.made)
            for change in self.changes:
                if self.record is None:
                    self._kept[change.path] = _Memory(change.path)
                if change.kind == "removed":
                    files.remove(change.path)
                else:
                    files.put(change.staged, change.path)
        except BaseException:
            self.undo()
            raise

    def finish(self) -> None:
        """Keep the result; the record stays for a later rollback."""
        if self.record is not None and self._journal is not None:
            self.record.advance(DONE)
            self._journal.prune()

    def undo(self) -> List[str]:
        """Everything as it was; gives the paths that went back."""
        if self.record is not None and self._journal is not None:
            self.record.document["made"] = self.made
            touched = self.record.undo()
            self._journal.drop(self.record.number)
            return touched
        for memory in self._kept.values():
            memory.restore()
        for change in self.changes:
            files.remove(change.staged)
        for directory in reversed(self.made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        return list(self._kept)


class _Memory:
    """The earlier version of one file, held by a second name or, failing that, in memory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.link = os.readlink(path) if os.path.islink(path) else None
        self.body: Optional[bytes] = None
        if self.link is None and os.path.exists(path):
            self.body = files.read(path)
            self.status = os.stat(path)

    def restore(self) -> None:
        if self.link is not None:
            files.remove(self.path)
            os.symlink(self.link, self.path)
        elif self.body is None:
            files.remove(self.path)
        else:
            mode, uid, gid = self.status.st_mode & 0o7777, self.status.st_uid, self.status.st_gid
            change = Change(self.path, "changed", self.body, mode, uid, gid, None)
            files.stage(change, [])
            files.put(change.staged, self.path)


def check(command: str, change: Change) -> None:
    """Run a file's own check on the staged copy, without a shell; CheckFailed has its last lines."""
    arguments = [part.replace("%s", change.staged) for part in shlex.split(command)]
    # sshd does not start unless it is called by its whole path; /usr/sbin is not on everybody's.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    arguments[0] = shutil.which(arguments[0], path=path) or arguments[0]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CheckFailed(f"{change.path}: its check takes longer than {CHECK_TIMEOUT_S:g} s", detail=command) from exc
    except OSError as exc:
        raise CheckFailed(f"{change.path}: its check does not start", detail=f"{command}: {exc.strerror}") from exc
    if done.returncode != 0:
        raise CheckFailed(
            f"{change.path}: its check refused the new version (exit status {done.returncode})",
            detail=f"{command}\n{tail(done.stdout)}",
        )


def sync(paths: List[str]) -> None:
    """Make these files durable: fsync for a few, syncfs of their file systems for many."""
    if len(paths) <= FSYNC_ONE_BY_ONE:
        for path in paths:
            _with_descriptor(path, os.fsync)
        return
    import ctypes  # for this only: there is no os.syncfs

    library = ctypes.CDLL(None, use_errno=True)
    seen = set()
    for path in paths:
        device = os.lstat(path).st_dev
        if device not in seen:
            seen.add(device)
            _with_descriptor(path, lambda fd: library.syncfs(fd))


def _with_descriptor(path: str, action: Callable[[int], object]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        action(descriptor)
    finally:
        os.close(descriptor)
