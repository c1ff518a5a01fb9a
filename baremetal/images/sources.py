"""What source repositories of elements hold now, so that a new commit or file makes the layer that takes it anew.

Rows are those of diskimage-builder's source-repository-* files, with its
overriding variables. Places on this machine are asked each time, others like
the mirror: at most every twelve hours.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from baremetal.images.mirror import FRESH_FOR_S

_ROW = re.compile(r"([^ ]+) (git|tar|file|package) ?(/[^ ]+)? ?([^ ]+)? ?([^ ]*)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
ANSWER_S = 20.0


@dataclass(frozen=True)
class Source:
    """One row; `ref` is a branch, tag, commit or "*" of a git repository."""

    name: str
    kind: str
    location: str
    ref: str

    @property
    def local(self) -> bool:
        return self.location.startswith(("file://", "/"))


def read(hooks: Path, env: Mapping[str, str]) -> Iterator[Source]:
    """The sources that will be taken, with the variables that say otherwise heeded."""
    if env.get("NO_SOURCE_REPOSITORIES"):
        return
    for path in sorted(hooks.glob("source-repository-*")):
        for line in path.read_text(errors="replace").splitlines():
            match = _ROW.fullmatch(" ".join(string.Template(line).safe_substitute(env).split()))
            if match and not line.lstrip().startswith("#"):
                found = _overridden(match, env)
                if found:
                    yield found


def _overridden(match: re.Match[str], env: Mapping[str, str]) -> Source | None:
    name, kind, _, location, ref = match.groups()
    word = re.sub("[^A-Za-z0-9]", "_", name)
    if env.get(f"DIB_INSTALLTYPE_{word}", env.get("DIB_DEFAULT_INSTALLTYPE", "source")) != "source":
        return None
    kind = env.get(f"DIB_REPOTYPE_{word}") or kind
    location = env.get(f"DIB_REPOLOCATION_{word}") or location or ""
    ref = env.get(f"DIB_REPOREF_{word}") or ref or ("master" if kind == "git" else "")
    return Source(name, kind, location, ref) if kind != "package" else None


def states(hooks: Path, env: Mapping[str, str], cache: Path, *, refresh: bool, offline: bool) -> dict[str, str]:
    """What to call each source -> what it holds: a commit, a digest, or "unknown"."""
    return {
        f"source {source.name} ({source.location} {source.ref})": _state(source, cache, refresh, offline)
        for source in read(hooks, env)
    }


def _state(source: Source, cache: Path, refresh: bool, offline: bool) -> str:
    if source.kind == "git" and _COMMIT.fullmatch(source.ref):
        return source.ref
    if source.local:
        return _ask(source) or "unknown"
    name = hashlib.sha256(f"{source.kind} {source.location} {source.ref}".encode()).hexdigest()[:16]
    memory = cache / "mirrors" / f"source-{name}.json"
    seen, state = _remembered(memory)
    if state and not refresh and (offline or time.time() - seen < FRESH_FOR_S):
        return state
    answer = "" if offline else _ask(source)
    if answer:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps([time.time(), answer]))
    return answer or state or "unknown"


def _remembered(path: Path) -> tuple[float, str]:
    try:
        seen, state = json.loads(path.read_text())
        return float(seen), str(state)
    except (OSError, ValueError, TypeError):
        return 0.0, ""


def _ask(source: Source) -> str:
    """The state, or "" when nobody answers; the build itself will say what is wrong then."""
    try:
        return _heads(source) if source.kind == "git" else _file(source.location)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def _heads(source: Source) -> str:
    wanted = [] if source.ref == "*" else [source.ref]
    done = subprocess.run(
        ["git", "ls-remote", "--", source.location, *wanted],
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        timeout=ANSWER_S,
        check=True,
    )
    return hashlib.sha256(done.stdout).hexdigest() if done.stdout.strip() else ""


def _file(location: str) -> str:
    path = location.removeprefix("file://")
    if path.startswith("/"):
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not location.startswith(("http://", "https://")):
        return ""
    with urllib.request.urlopen(urllib.request.Request(location, method="HEAD"), timeout=ANSWER_S) as answer:  # noqa: S310
        told = [answer.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]
    return " ".join(filter(None, told))
