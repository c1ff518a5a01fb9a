"""What a layer's content depends on, as one hash with its reasons.

A phase sees: its scripts, the helper files they mention, environment.d, the
variables they mention, and the tree below. Names are searched for in the
scripts' text, so an unrelated edit leaves a layer alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VERSION = 4  # raise it when the runner's own effect on layers changes
PHASE_DIR = re.compile(r".*\.d$")
PHASES = (
    "root extra-data pre-install install post-install post-root block-device pre-finalise finalise cleanup environment"
)
PHASE_DIRS = tuple(f"{phase}.d" for phase in PHASES.split())
RUNNABLE = re.compile(r"[0-9A-Za-z_-]+")
SHORTEST_STEM = 5  # "DIB_" alone would name every variable
LARGEST_SCRIPT = 1 << 20  # bytes; what is larger is data
LARGEST_FILE = 64 << 20  # bytes of a file a variable names
DOCUMENTS = ("README.rst", "README.md", "README")


@dataclass
class Inputs:
    """Named digests that make up one key; comparing two tells what changed."""

    parts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.parts[name] = hashlib.sha256(data).hexdigest()[:32]

    def key(self) -> str:
        body = "\n".join(f"{name} {digest}" for name, digest in sorted(self.parts.items()))
        return hashlib.sha256(f"{VERSION}\n{body}".encode()).hexdigest()[:24]

    def changed_from(self, old: Mapping[str, str]) -> list[str]:
        """What differs from an older set of inputs, in words."""
        words = []
        for name in sorted(self.parts.keys() | old.keys()):
            if name not in old:
                words.append(f"new: {name}")
            elif name not in self.parts:
                words.append(f"gone: {name}")
            elif self.parts[name] != old[name]:
                words.append(f"changed: {name}")
        return words


def scripts_of(hooks: Path, phase: str) -> list[str]:
    """What dib-run-parts would run, in its order (number first, then bytes; LC_ALL=C sort -n)."""
    directory = hooks / f"{phase}.d"
    names = []
    if directory.is_dir():
        for entry in os.scandir(directory):
            if RUNNABLE.fullmatch(entry.name) and entry.is_file() and os.access(entry.path, os.X_OK):
                names.append(entry.name)
    return sorted(names, key=_run_order)


def never_run(hooks: Path, phases: Iterable[str]) -> list[tuple[str, str]]:
    """Files beside the scripts of phases that look like scripts, and why dib-run-parts passes them over.

    Not those a script names: they are for it to copy.
    """
    found = []
    for phase in phases:
        directory = hooks / f"{phase}.d"
        text = b"".join((directory / name).read_bytes() for name in scripts_of(hooks, phase))
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if not path.is_file() or not path.read_bytes().startswith(b"#!") or path.name.encode() in text:
                continue
            if not os.access(path, os.X_OK):
                found.append((f"{phase}.d/{path.name}", "it is not executable"))
            elif not RUNNABLE.fullmatch(path.name):
                found.append((f"{phase}.d/{path.name}", "its name has other characters than letters, digits, - and _"))
    return found


def _run_order(name: str) -> tuple[float, bytes]:
    digits = re.match(r"[0-9]+", name)
    negative = re.match(r"-[0-9]+", name)
    value = int(digits[0]) if digits else int(negative[0]) if negative else 0
    return value, name.encode()


def phase_inputs(
    hooks: Path,
    phase: str,
    scripts: Sequence[str],
    env: Mapping[str, str],
    *,
    owns_rest: bool,
    also: bytes = b"",
) -> Inputs:
    """Everything in the hooks directory and environment the scripts of one phase can see.

    `owns_rest`: also what lies beside the scripts in <phase>.d. `also`: more text
    whose variables the scripts read, such as the conditions of package lists.
    """
    inputs = Inputs()
    text = bytearray(also)
    directory = hooks / f"{phase}.d"
    for name in scripts:
        text += _add_file(inputs, directory / name, f"{phase}.d/{name}")
    for path in _beside(directory, scripts, owns_rest):
        text += _add_file(inputs, path, f"{phase}.d/{path.relative_to(directory)}")
    for path in _files(hooks / "bin"):
        # Helpers are on the PATH from pre-install on; before, a script names the one it calls.
        if phase != "root" or path.name.encode() in text:
            text += _add_file(inputs, path, str(path.relative_to(hooks)))
    for path in _settings(hooks, bytes(text)):
        text += _add_file(inputs, path, str(path.relative_to(hooks)))
    _add_mentioned(inputs, hooks, bytes(text))
    for name in sorted(_named(env, bytes(text))):
        inputs.add(f"${name}", env[name])
        _add_file_named(inputs, name, env[name])
    return inputs


def _named(names: Iterable[str], text: bytes) -> set[str]:
    """The variables a text names: by word, or by how they begin (`DIB_REPOREF_${name}`)."""
    words = {word.decode() for word in re.findall(rb"[A-Za-z_][A-Za-z0-9_]*", text)}
    stems = tuple(word for word in words if word.endswith("_") and len(word) >= SHORTEST_STEM)
    return {name for name in names if name in words or (stems and name.startswith(stems))}


def named_in(env: Mapping[str, str], places: Iterable[Path]) -> dict[str, str]:
    """The variables that some file of these directories names."""
    if not env:
        return {}
    text = b"\n".join(path.read_bytes() for place in places for path in _files(place) if _is_text(path))
    return {name: env[name] for name in _named(env, text)}


def _is_text(path: Path) -> bool:
    return path.is_file() and path.name not in DOCUMENTS and path.stat().st_size < LARGEST_SCRIPT


def _add_file_named(inputs: Inputs, name: str, value: str) -> None:
    """A variable that holds the path of a file outside of any element stands for that file."""
    path = Path(value.removeprefix("file://"))
    try:
        if value and path.is_absolute() and path.is_file() and path.stat().st_size <= LARGEST_FILE:
            inputs.add(f"${name}, the file", path.read_bytes())
    except (OSError, ValueError):
        return


_ASSIGNMENT = re.compile(rb"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=.*")


def _settings(hooks: Path, text: bytes) -> list[Path]:
    """The environment.d files this phase can notice: those that do more than set variables it never names.

    Every phase sources them all, but one that only exports a variable nobody in
    the phase mentions changes nothing there.
    """
    files = _files(hooks / "environment.d")
    assigned = {path: _assigned(path) for path in files}
    noticed: set[Path] = set()
    seen = text
    while True:
        fresh = {p for p in files if p not in noticed and _notices(assigned[p], seen)}
        if not fresh:
            return [path for path in files if path in noticed]
        noticed |= fresh
        seen += b"".join(path.read_bytes() for path in sorted(fresh))


def _notices(names: list[bytes] | None, text: bytes) -> bool:
    return names is None or any(re.search(rb"\b" + name + rb"\b", text) for name in names)


def _assigned(path: Path) -> list[bytes] | None:
    """Variables a file assigns; None when it does anything else."""
    names = []
    for line in path.read_bytes().splitlines():
        bare = line.strip()
        if not bare or bare.startswith(b"#"):
            continue
        match = _ASSIGNMENT.fullmatch(bare)
        if not match or b"$(" in bare or b"`" in bare:
            return None
        names.append(match[1])
    return names


def _beside(directory: Path, scripts: Sequence[str], owns_rest: bool) -> Iterable[Path]:
    ran = set(scripts)
    if not directory.is_dir():
        return
    for path in _files(directory):
        relative = path.relative_to(directory)
        if str(relative) in ran:
            continue
        if owns_rest or (len(relative.parts) == 1 and relative.name.startswith("package-installs-")):
            yield path


def _add_mentioned(inputs: Inputs, hooks: Path, text: bytes) -> None:
    """Shared directories and top-level files whose name a script mentions."""
    for entry in sorted(os.scandir(hooks), key=lambda e: e.name):
        if entry.name == "bin" or entry.name in DOCUMENTS or entry.name in PHASE_DIRS:
            continue  # any other *.d, such as ramdisk-steps.d, is data of the script that names it
        if not re.search(rb"(?<![A-Za-z0-9_-])" + re.escape(entry.name.encode()) + rb"(?![A-Za-z0-9_-])", text):
            continue
        path = Path(entry.path)
        for file in _files(path) if entry.is_dir() else [path]:
            _add_file(inputs, file, str(file.relative_to(hooks)))


def element_inputs(elements: Iterable[tuple[str, Path]]) -> Inputs:
    """Every file of every element: extra-data.d scripts may read any of them."""
    inputs = Inputs()
    for name, root in elements:
        for path in _files(root):
            relative = path.relative_to(root)
            if relative.name in DOCUMENTS or relative.parts[0] in ("tests", "test-elements", "__pycache__"):
                continue
            # Later phases hash their own scripts; editing one must not disturb this phase.
            if len(relative.parts) == 2 and PHASE_DIR.fullmatch(relative.parts[0]):
                continue
            _add_file(inputs, path, f"{name}/{relative}")
    return inputs


def conditions(elements: Iterable[tuple[str, Path]]) -> bytes:
    """The package lists of all elements: their `when:` names variables that no script does."""
    lists = (root / f"package-installs.{kind}" for _, root in elements for kind in ("yaml", "json"))
    return b"\n".join(path.read_bytes() for path in lists if path.is_file())


def element_digest(root: Path) -> str:
    """SHA-256 over every file of one element."""
    inputs = Inputs()
    for path in _files(root):
        _add_file(inputs, path, str(path.relative_to(root)))
    body = "\n".join(f"{name} {digest}" for name, digest in sorted(inputs.parts.items()))
    return hashlib.sha256(body.encode()).hexdigest()


def package_inputs(package: Path, rooms: Sequence[str]) -> Inputs:
    """The parts of our own package an element installs on nodes ($BAREMETAL_PACKAGE_DIR)."""
    inputs = Inputs()
    for room in rooms:
        path = package / room
        for file in [path] if path.is_file() else _files(path):
            if file.suffix == ".py":
                _add_file(inputs, file, f"baremetal/{file.relative_to(package)}")
    return inputs


def _files(root: Path) -> list[Path]:
    found = []
    for here, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d != "__pycache__")
        for name in sorted(names):
            if not name.endswith(".pyc"):
                found.append(Path(here, name))
    return found


def _add_file(inputs: Inputs, path: Path, name: str) -> bytes:
    if not path.is_file():  # a link to nothing, or to what cannot be read to its end
        inputs.add(name, f"link {os.readlink(path)}" if path.is_symlink() else "no file")
        return b""
    data = path.read_bytes()
    link = f"link {os.readlink(path)}\n" if path.is_symlink() else ""
    inputs.add(name, f"{link}{path.stat().st_mode & 0o111:o}\n".encode() + data)
    # A comment that mentions a file does not read it.
    return b"".join(line for line in data.splitlines(keepends=True) if not line.lstrip().startswith(b"#"))
