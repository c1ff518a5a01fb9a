"""A console on disk, with time stamps: asciicast v2, which `asciinema play` understands too.

First line a JSON header, then one JSON array a piece: `[seconds, "o", text]` for
output, `[seconds, "m", text]` for what happened to the console itself.
"""

from __future__ import annotations

import codecs
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from baremetal.errors import UsageError

# A log larger than this is put aside as FILE.1 and begun anew.
LARGEST_BYTES = 64 * 1024 * 1024


class ConsoleLog:
    """Appends to one file; several readers may follow it."""

    def __init__(self, path: Path, title: str, *, now: float | None = None) -> None:
        self.path = path
        self.title = title
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._file = self._open(time.time() if now is None else now)

    def _open(self, now: float) -> IO[str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        file = os.fdopen(descriptor, "a+", encoding="utf-8")
        file.seek(0)
        first = file.readline()
        self._began = float(json.loads(first)["timestamp"]) if first.strip() else now
        if not first.strip():
            header = {"version": 2, "width": 80, "height": 24, "timestamp": int(now), "title": self.title}
            file.write(json.dumps(header) + "\n")
            self._began = int(now)
        file.seek(0, os.SEEK_END)
        return file

    def output(self, data: bytes, *, now: float | None = None) -> None:
        """What the machine sent."""
        text = self._decoder.decode(data)
        if text:
            self._line("o", text, now)

    def mark(self, text: str, *, now: float | None = None) -> None:
        """What happened: opened, lost, taken over, closed."""
        self._line("m", text, now)

    def _line(self, kind: str, text: str, now: float | None) -> None:
        seconds = round((time.time() if now is None else now) - self._began, 3)
        self._file.write(json.dumps([seconds, kind, text], ensure_ascii=False) + "\n")
        self._file.flush()
        if self._file.tell() > LARGEST_BYTES:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self._open(time.time())

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[tuple[float, str, str]]:
    """(seconds since the beginning, kind, text) of a log; a half-written last line is left out."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            file.readline()
            for line in file:
                try:
                    seconds, kind, text = json.loads(line)
                    yield float(seconds), str(kind), str(text)
                except ValueError:
                    continue
    except OSError as exc:
        raise UsageError(f"{path}: no console log", detail=exc.strerror or str(exc)) from exc


def replay(path: Path, *, speed: float = 1.0, longest_pause_s: float = 2.0) -> Iterator[tuple[float, str]]:
    """(pause before it in seconds, text) of all output; long silences are shortened."""
    before: float | None = None
    for seconds, kind, text in read(path):
        if kind != "o":
            continue
        pause = 0.0 if before is None else max(0.0, seconds - before)
        before = seconds
        yield min(pause / max(speed, 0.01), longest_pause_s), text
