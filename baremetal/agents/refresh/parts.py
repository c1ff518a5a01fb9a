"""Which scripts of a directory run, in which order, with which environment (dib-run-parts' rules).

Regular executable files or links to such, names of letters, digits, `-` and `_`
only, sorted by their leading number, then bytewise. `../environment.d` is
sourced by bash once per directory; only what it exports reaches the scripts.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Dict, List, Mapping, Tuple

from baremetal.errors import BaremetalError

NAME = "^[0-9A-Za-z_-]+$"
ENVIRONMENT_NAME = "^[0-9A-Za-z._-]+$"
ENVIRONMENT_TIMEOUT_S = 60.0

_SOURCE = r"""
set -eu
out=$1; shift
for file in "$@"; do . "$file"; done
env -0 >&"$out"
"""


class BadEnvironment(BaremetalError):
    """A file of environment.d failed."""

    code = "config-environment"


def scripts(directory: str, pattern: str = "") -> List[str]:
    """Paths in running order. RUN_PARTS_REGEX of the environment overrides which names count."""
    allowed = re.compile(pattern or os.environ.get("RUN_PARTS_REGEX") or NAME)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    paths = [(name, os.path.join(directory, name)) for name in names if allowed.search(name)]
    found = [name for name, path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]
    return [os.path.join(directory, name) for name in sorted(found, key=_sort_key)]


def environment(directory: str, base: Mapping[str, str]) -> Dict[str, str]:
    """`base` as environment.d beside this directory changes it."""
    files = environment_files(directory)
    if not files:
        return dict(base)
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            ["bash", "-c", _SOURCE, "environment.d", str(write_end), *files],
            env=dict(base),
            stdin=subprocess.DEVNULL,
            pass_fds=[write_end],
        )
    except OSError as exc:
        os.close(read_end)
        raise BadEnvironment("environment.d needs bash", detail=str(exc)) from exc
    finally:
        os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = _all_of(pipe, process)
    if process.returncode != 0:
        raise BadEnvironment(
            f"environment.d beside {directory} failed (exit status {process.returncode})", detail=", ".join(files)
        )
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def environment_files(directory: str) -> List[str]:
    """Files of environment.d, by name (so 10-x comes before 9-y)."""
    beside = os.path.join(directory, os.pardir, "environment.d")
    try:
        names = sorted(os.listdir(beside), key=os.fsencode)
    except (FileNotFoundError, NotADirectoryError):
        return []
    allowed = re.compile(ENVIRONMENT_NAME)
    paths = (os.path.join(beside, name) for name in names if allowed.search(name))
    return [path for path in paths if os.path.isfile(path)]


def _all_of(pipe: "object", process: "subprocess.Popen[bytes]") -> bytes:
    """What is written until the shell ends; a shell that hangs is killed."""
    import threading

    timer = threading.Timer(ENVIRONMENT_TIMEOUT_S, process.kill)
    timer.start()
    try:
        raw: bytes = pipe.read()  # type: ignore[attr-defined]
        process.wait()
        return raw
    finally:
        timer.cancel()


def _sort_key(name: str) -> Tuple[int, bytes]:
    """As `LC_ALL=C sort -n`: no number counts as 0."""
    match = re.match(r"-?[0-9]+", name)
    return (int(match[0]) if match else 0, os.fsencode(name))
