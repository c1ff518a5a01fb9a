"""Messages for control, kept on disk until control has stored them.

An append-only file of JSON lines, one message each. What is acknowledged leaves
memory at once and the file when it is next compacted (everything sent, or more
than half of it dead). Bounded in bytes: when full, the oldest messages that
nothing depends on (beats, progress, sightings) go first, and then new ones are
refused: the caller answers 503 and the agent tries again.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from baremetal.errors import MachineError
from baremetal.protocol.plane import Message

# Losing these costs a line in a timeline, never a decision.
DROPPABLE = frozenset(
    {"beat", "boot-seen", "unknown-seen", "loader-sent", "artifact-sent", "metadata-sent", "serving", "refused"}
)
COMPACT_ABOVE = 256 * 1024


class SpoolFull(MachineError):
    """No room for another message, on disk or by the limit."""

    code = "spool-full"


class Spool:
    """A bounded, durable queue. `limit` in bytes. Single-threaded."""

    def __init__(self, path: Path, limit: int = 64 * 1024 * 1024) -> None:
        self._path, self._limit = path, limit
        self._waiting: collections.OrderedDict[str, bytes] = collections.OrderedDict()
        self._bytes = 0
        self._file_bytes = 0
        self.dropped = 0
        self.damaged = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._recall()
        self._file = self._open()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message, *, sync: bool = False) -> None:
        """Keep a message; `sync` also survives a power cut (or call `sync` later). SpoolFull when there is no room."""
        line = message.to_bytes() + b"\n"
        self._make_room(len(line))
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fdatasync(self._file.fileno())
        except OSError as exc:
            self._after_failed_write()
            raise SpoolFull(
                f"cannot keep a message in {self._path}: {exc.strerror}",
                detail=f"{len(self)} messages wait for the control plane",
                fix="free space on that filesystem: df -h",
            ) from exc
        self._file_bytes += len(line)
        self._waiting[message.id] = line
        self._bytes += len(line)

    def sync(self) -> Callable[[], None]:
        """A call that makes what is kept now survive a power cut. It blocks: for a thread; SpoolFull when it fails."""
        descriptor = os.dup(self._file.fileno())  # the file may be compacted meanwhile: that writes all of it anew

        def now() -> None:
            try:
                os.fdatasync(descriptor)
            except OSError as exc:
                raise SpoolFull(f"cannot keep messages in {self._path}: {exc.strerror}") from exc
            finally:
                os.close(descriptor)

        return now

    def lines(self, count: int, max_bytes: int) -> dict[str, bytes]:
        """As head, but the messages as they are on disk, by id."""
        found: dict[str, bytes] = {}
        size = 0
        for message_id, line in self._waiting.items():
            size += len(line)
            if len(found) == count or (found and size > max_bytes):
                break
            found[message_id] = line
        return found

    def head(self, count: int, max_bytes: int) -> list[Message]:
        """The oldest messages, in order: at most `count`, and `max_bytes` unless one alone is larger."""
        return [Message.from_bytes(line) for line in self.lines(count, max_bytes).values()]

    def acknowledge(self, ids: list[str]) -> None:
        """Control has stored these."""
        for message_id in ids:
            line = self._waiting.pop(message_id, None)
            if line is not None:
                self._bytes -= len(line)
        if self._file_bytes > COMPACT_ABOVE and self._bytes < self._file_bytes / 2:
            with contextlib.suppress(OSError):  # a full disk: the old file is still whole
                self._compact()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._compact()
        self._file.close()

    def _make_room(self, size: int) -> None:
        if self._bytes + size <= self._limit:
            return
        for message_id, line in list(self._waiting.items()):
            if _droppable(line):
                del self._waiting[message_id]
                self._bytes -= len(line)
                self.dropped += 1
                if self._bytes + size <= self._limit * 0.9:
                    return
        if self._bytes + size > self._limit:
            raise SpoolFull(
                f"{len(self)} messages ({self._bytes} bytes) already wait for the control plane",
                fix="bring the control plane back: baremetal status; or raise spool_limit",
            )

    def _recall(self) -> None:
        """What the last run left. A torn last line (power cut) is dropped."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        self._file_bytes = len(content)
        for line in content.splitlines(keepends=True):
            try:
                message = Message.from_bytes(line)
                if not line.endswith(b"\n"):
                    raise ValueError("torn")
            except ValueError:
                self.damaged += 1
                continue
            self._waiting[str(message.id)] = line
            self._bytes += len(line)

    def _open(self) -> io.FileIO:
        if self.damaged:
            self._rewrite()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return io.FileIO(descriptor, "ab")

    def _compact(self) -> None:
        self._rewrite()
        self._file.close()
        self._file = self._open()

    def _rewrite(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            for line in self._waiting.values():
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._file_bytes, self.damaged = self._bytes, 0

    def _after_failed_write(self) -> None:
        """Half a line may have been written: cut the file back to whole lines."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), self._file_bytes)


def _droppable(line: bytes) -> bool:
    doc = json.loads(line)
    if doc["kind"] == "report":
        return bool(doc["body"].get("report", {}).get("outcome") == "progress")
    return doc["kind"] in DROPPABLE
