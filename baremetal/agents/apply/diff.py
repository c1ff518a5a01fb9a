"""What would change, as a unified diff with secrets masked.

A file only its owner may read, or one marked `secret: true`, is not shown at
all. In other files values of metadata keys that sound secret are masked, and so
is what follows a secret-sounding word, a password in a URL, a private key.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, List, Set

from baremetal.agents.apply import files
from baremetal.agents.apply.errors import WriteFailed
from baremetal.agents.apply.files import Change

MASK = "******"
EARLIER = "****** (an earlier secret)"
MIN_SECRET = 4  # characters: shorter values would mask half the file
SECRET_KEY = re.compile(r"pass(word|wd|phrase)?|secret|token|credential|private|api_?key|access_?key", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"(?i)((?:{SECRET_KEY.pattern})[\w.-]*[\"']?\s*[=:]\s*|(?:{SECRET_KEY.pattern})[\w.-]*\s+)(\S.*)$"
)
_URL = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def secrets_in(values: Any) -> Set[str]:
    """Texts at keys that sound secret, anywhere in the document."""
    found: Set[str] = set()
    _walk(values, False, found)
    return found


def unified(changes: List[Change], secrets: Set[str], *, show_secrets: bool = False) -> str:
    """All changes, in the form of `diff -u`."""
    return "".join(_one(change, secrets, show_secrets) for change in changes)


def mask(text: str, secrets: Set[str]) -> str:
    """The text without these values and without what looks secret by itself."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _PEM.sub(rf"\1 {MASK} \2", text)
    text = _URL.sub(rf"\1{MASK}@", text)
    return "\n".join(_ASSIGNED.sub(lambda m: m[1] + MASK, line) for line in text.split("\n"))


def _one(change: Change, secrets: Set[str], show: bool) -> str:
    before = b"" if change.kind == "created" else _readable(change.path)
    head = f"{change.kind}: {change.path} (mode {change.mode:04o})\n" if change.kind != "removed" else ""
    if not show and _private(change):
        return head or f"removed: {change.path}\n"
    old, new = _text(before), _text(change.body)
    if not show:
        old, new = mask(_without_earlier(old, new, secrets), secrets), mask(new, secrets)
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        new.splitlines(keepends=True),
        change.path if before or change.kind != "created" else "/dev/null",
        change.path if change.kind != "removed" else "/dev/null",
    )
    body = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return head + body


def _without_earlier(old: str, new: str, secrets: Set[str]) -> str:
    """The old text without what stood where the new one has a secret: the earlier secret is none of ours any more."""
    kept = set(new.splitlines())
    shapes = []
    for line in kept:
        if any(secret in line for secret in secrets):
            rest = _split(line, secrets)
            shapes.append(re.compile("(.+)".join(re.escape(part) for part in rest)))
    lines = old.splitlines(keepends=True)
    for index, line in enumerate(lines):
        text = line.rstrip("\r\n")
        if text not in kept and any(shape.fullmatch(text) for shape in shapes):
            lines[index] = f"{EARLIER}{line[len(text) :]}"
    return "".join(lines)


def _split(line: str, secrets: Set[str]) -> List[str]:
    """What is around the secrets of this line."""
    found = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True) if secret)
    return re.split(found, line)


def _private(change: Change) -> bool:
    marked = change.planned is not None and change.planned.control.secret
    return marked or (change.kind != "removed" and change.mode & 0o077 == 0)


def _readable(path: str) -> bytes:
    try:
        return files.read(path)
    except WriteFailed:
        return b""


def _text(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")


def _walk(value: Any, secret: bool, found: Set[str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _walk(inner, secret or bool(SECRET_KEY.search(str(key))), found)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, secret, found)
    elif secret and isinstance(value, str) and len(value) >= MIN_SECRET:
        found.add(value)
