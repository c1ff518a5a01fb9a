"""Turns a template tree and metadata into planned files. Writes nothing.

A file with the executable bit is run, `*.j2` is Jinja2 (the suffix goes), `*.oac`
is a control file, anything else is mustache. Everything is rendered before the
first result is used, so one bad template leaves every file alone.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from baremetal.agents.apply import control, executable, mustache
from baremetal.agents.apply.control import Control
from baremetal.agents.apply.errors import BadTemplate, TemplateProblem
from baremetal.agents.apply.guard import bounded

JINJA_SUFFIX = ".j2"
Stamp = Tuple[int, int, int]  # mtime in ns, size, inode
MAX_TEMPLATE = 16 * 1024 * 1024


class Template(NamedTuple):
    """One file of the tree. `target` is relative to the output root, `controls` are control files beside it."""

    path: str
    target: str
    kind: str  # "mustache" | "jinja" | "executable"
    stamp: Stamp
    controls: Tuple[str, ...]


class Planned(NamedTuple):
    """What shall be in a file. `path` is where, with the output root."""

    path: str
    body: bytes
    control: Control
    template: str


def templates(root: str) -> List[Template]:
    """All templates below `root`, in the order of their names; links to directories are not entered."""
    found: List[Template] = []
    _walk(root, "", found)
    targets: Dict[str, str] = {}
    for template in found:
        if template.target in targets:
            raise BadTemplate(f"{template.path} and {targets[template.target]} are templates of the same file")
        targets[template.target] = template.path
    return found


def _walk(root: str, below: str, found: List[Template]) -> None:
    """One stat per file: a tree of a thousand is walked at every change."""
    try:
        with os.scandir(os.path.join(root, below)) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise BadTemplate(f"cannot read template directory {os.path.join(root, below)}", detail=str(exc)) from exc
    names = {entry.name for entry in here}
    for entry in here:
        relative = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            _walk(root, relative, found)
        elif not entry.name.endswith(control.SUFFIX) and not entry.is_dir():
            found.append(_classify(entry, relative, names))


def _classify(entry: "os.DirEntry[str]", relative: str, names: Set[str]) -> Template:
    try:
        status = entry.stat()
    except OSError as exc:
        raise BadTemplate(f"cannot read template {entry.path}", detail=str(exc)) from exc
    stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
    kind, target, stems = "mustache", relative, [entry.name]
    if status.st_mode & 0o111 and stat.S_ISREG(status.st_mode) and os.access(entry.path, os.X_OK):
        kind = "executable"
    elif relative.endswith(JINJA_SUFFIX):
        kind, target = "jinja", relative[: -len(JINJA_SUFFIX)]
        stems.append(entry.name[: -len(JINJA_SUFFIX)])
    directory = os.path.dirname(entry.path)
    controls = tuple(os.path.join(directory, stem) for stem in stems if stem + control.SUFFIX in names)
    return Template(entry.path, target, kind, stamp, controls)


class _Known(NamedTuple):
    """A parsed template: of which file version, and what it looks at."""

    stamp: Stamp
    parsed: Any
    roots: FrozenSet[str]


class _Result(NamedTuple):
    """What a template gave last time, and by which rules."""

    known: _Known
    strict: bool
    body: bytes


class Renderer:
    """Renders trees. Keeps parsed templates and results from one run to the next:
    a template is rendered again only when a key of the root it looks at has changed."""

    def __init__(self, *, strict: bool = False, exec_timeout_s: Optional[float] = None) -> None:
        self.strict = strict
        self.exec_timeout_s = exec_timeout_s
        self._known: Dict[str, _Known] = {}
        self._results: Dict[str, _Result] = {}
        self._controls: Dict[str, Tuple[Stamp, Control]] = {}
        self._values: Dict[str, Any] = {}
        self._at = ""  # the template being rendered, for the message when a bound is broken

    def render(self, root: str, output: str, values: Dict[str, Any]) -> List[Planned]:
        """Every file of the tree, or an error that names the template."""
        found = templates(root)
        self._at = root
        with bounded(lambda: f"template {self._at}"):
            controls = {t.path: self._control(t) for t in found}
            changed = _changed_keys(self._values, values)
            texts = [t for t in found if t.kind != "executable"]
            results = {t.path: self._text(t, values, controls[t.path], changed) for t in texts}
        self._values, self._results = values, results
        bodies = {path: result.body for path, result in results.items()}
        runs = [t for t in found if t.kind == "executable"]
        document = json.dumps(values).encode("ascii") if runs else b""
        for template in runs:
            bodies[template.path] = executable.run(template.path, document, timeout_s=self.exec_timeout_s)
        return [Planned(os.path.join(output, t.target), bodies[t.path], controls[t.path], t.path) for t in found]

    def _control(self, template: Template) -> Control:
        """X.oac beside template X; for X.j2 also X.oac."""
        for stem in template.controls:
            stamp = _stamp(stem + control.SUFFIX)
            known = self._controls.get(stem)
            if stamp is None or known is None or known[0] != stamp:
                known = self._controls[stem] = (stamp or (0, 0, 0), control.read(stem))
            return known[1]
        return control.NOTHING

    def _text(self, template: Template, values: Dict[str, Any], rules: Control, changed: Set[str]) -> _Result:
        self._at = template.path
        strict = self.strict if rules.strict is None else rules.strict
        try:
            known = self._parsed(template)
            last = self._results.get(template.path)
            if last is not None and last.known is known and last.strict == strict and changed.isdisjoint(known.roots):
                return last
            # A lone surrogate of a JSON string does not encode: UnicodeEncodeError, a ValueError.
            return _Result(known, strict, _render_text(template.kind, known.parsed, values, strict).encode("utf-8"))
        except TemplateProblem as exc:
            raise BadTemplate(f"template {template.path}, {exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise BadTemplate(f"template {template.path} cannot be rendered", detail=str(exc)) from exc

    def _parsed(self, template: Template) -> _Known:
        known = self._known.get(template.path)
        if known is None or known.stamp != template.stamp:
            parsed, roots = _parse_text(template.kind, _read(template.path))
            known = self._known[template.path] = _Known(template.stamp, parsed, roots)
        return known


def _changed_keys(old: Dict[str, Any], new: Dict[str, Any]) -> Set[str]:
    """Keys of the root whose values differ. 1, 1.0 and true compare equal in Python but print differently."""
    keys = {k for k in old if k not in new} | {k for k in new if k not in old}
    for key, value in new.items():
        if key in old and old[key] is not value and json.dumps(old[key]) != json.dumps(value):
            keys.add(key)
    if keys:
        keys.add(".")  # a template that prints the whole document
    return keys


def _render_text(kind: str, parsed: Any, values: Dict[str, Any], strict: bool) -> str:
    if kind == "jinja":
        from baremetal.agents.apply import jinja

        return jinja.render(parsed, values)
    return mustache.render(parsed, values, strict=strict)


def _parse_text(kind: str, text: str) -> Tuple[Any, FrozenSet[str]]:
    if kind == "jinja":
        from baremetal.agents.apply import jinja

        compiled = jinja.parse(text)
        return compiled, compiled.roots
    parsed = mustache.parse(text)
    return parsed, mustache.roots(parsed)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as f:
            raw = f.read(MAX_TEMPLATE + 1)
    except OSError as exc:
        raise BadTemplate(f"cannot read template {path}", detail=str(exc)) from exc
    if len(raw) > MAX_TEMPLATE:
        raise BadTemplate(f"template {path} is larger than {MAX_TEMPLATE} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadTemplate(f"template {path} is not UTF-8", detail=str(exc)) from exc
    # As the original, which read templates as text.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _stamp(path: str) -> Optional[Stamp]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
