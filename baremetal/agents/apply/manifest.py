"""What is ours on this machine: every file we wrote, with hash and identity.

Gives drift (a file of ours that is no longer as we left it), removal of files
whose template went away, and the short cut "still as we left it" without
reading the file.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from baremetal.agents.apply import files
from baremetal.agents.apply.files import Change
from baremetal.agents.apply.journal import read_json, write_json
from baremetal.agents.apply.render import Planned


class Drift(NamedTuple):
    """A file of ours that somebody touched. `what`: missing, content, mode, owner, kind."""

    path: str
    what: str


class Manifest:
    """The files of one state directory; load, ask, update, save."""

    def __init__(self, path: str) -> None:
        self.path = path
        document = read_json(path)
        found = document.get("files") if isinstance(document, dict) else None
        self.files: Dict[str, Dict[str, Any]] = found if isinstance(found, dict) else {}

    def untouched(self, planned: Planned) -> bool:
        """The file has the planned body, and nothing was done to it since we wrote it (by inode and change time)."""
        entry = self.files.get(planned.path)
        if entry is None or entry["sha256"] != files.digest(planned.body):
            return False
        rules = planned.control
        wanted = (rules.mode or entry["mode"], entry["uid"] if rules.uid is None else rules.uid)
        group = entry["gid"] if rules.gid is None else rules.gid
        if (entry["mode"], entry["uid"]) != wanted or entry["gid"] != group:
            return False
        return bool(_identity(planned.path) == entry["identity"])

    def orphans(self, plan: Iterable[Planned]) -> List[Change]:
        """Files of ours that no template wants any more, as removals; those changed by others are left alone."""
        wanted = {item.path for item in plan}
        left = [path for path in sorted(self.files) if path not in wanted]
        return [
            Change(path, "removed", b"", 0, None, None, None)
            for path in left
            if not _difference(path, self.files[path])
        ]

    def drift(self) -> List[Drift]:
        """Our files that are not as we left them."""
        found = []
        for path, entry in sorted(self.files.items()):
            what = _difference(path, entry)
            if what:
                found.append(Drift(path, what))
        return found

    def update(self, plan: Iterable[Planned], changed: Iterable[str]) -> None:
        """All planned files are in place: remember how they are. What is no longer planned is no longer ours."""
        entries = {}
        touched = set(changed)
        for item in plan:
            old = self.files.get(item.path)
            if old is not None and item.path not in touched:
                entries[item.path] = old
                continue
            identity = _identity(item.path)
            if identity is None:
                continue
            status = os.stat(item.path)
            entries[item.path] = {
                "sha256": files.digest(item.body),
                "mode": stat.S_IMODE(status.st_mode),
                "uid": status.st_uid,
                "gid": status.st_gid,
                "template": item.template,
                "identity": identity,
            }
        before, self.files = self.files, entries
        if entries != before:
            self.save()

    def save(self) -> None:
        write_json(self.path, {"schema": 1, "files": self.files}, durable=False)


def _identity(path: str) -> Optional[List[int]]:
    """Inode, size, and the time of the last change of any kind; None when there is no plain file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_ino, status.st_size, status.st_ctime_ns]


def _difference(path: str, entry: Dict[str, Any]) -> str:
    if not os.path.lexists(path):
        return "missing"
    identity = _identity(path)
    if identity is None:
        return "kind"
    if identity == entry["identity"]:
        return ""
    status = os.stat(path)
    if stat.S_IMODE(status.st_mode) != entry["mode"]:
        return "mode"
    if (status.st_uid, status.st_gid) != (entry["uid"], entry["gid"]):
        return "owner"
    return "content" if files.digest(files.read(path)) != entry["sha256"] else ""
