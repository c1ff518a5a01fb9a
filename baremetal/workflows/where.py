"""Choosing nodes: names with ranges (`r1-u[01-40]`) and conditions (`class=compute and state=available`). Pure."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping

from baremetal import lifecycle
from baremetal.errors import UsageError
from baremetal.model.node import Firmware, Node, Power, State
from baremetal.model.patterns import Pattern

Test = Callable[[Node], bool]
MOST = 100_000

_RANGE = re.compile(r"\[([^\[\]]+)\]")
_KEY = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(?=\)|and\b|or\b|$)", re.IGNORECASE)
_TERM = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(!=|=|~)\s*(\"[^\"]*\"|'[^']*'|[^\s()]+)")

KEYS: dict[str, Callable[[Node], str | None]] = {
    "name": lambda n: n.name,
    "state": lambda n: lifecycle.provision_state(n),
    "class": lambda n: n.resource_class,
    "image": lambda n: n.image_id,
    "power": lambda n: str(n.power),
    "role": lambda n: n.labels.get("role"),
    "fault": lambda n: n.fault.code if n.fault else "",
    "firmware": lambda n: str(n.firmware),
    "arch": lambda n: n.arch,
    "wanted": lambda n: n.wanted or "",
    "maintenance": lambda n: "true" if n.maintenance else "false",
    "protected": lambda n: str(n.protected).lower(),
    "retired": lambda n: str(n.retired).lower(),
    "id": lambda n: n.id,
}


# Keys whose values are known beforehand.
KNOWN: dict[str, frozenset[str]] = {
    "state": frozenset({*map(str, State), *lifecycle.IRONIC_NAMES.values()}),
    "power": frozenset(map(str, Power)),
    "firmware": frozenset(map(str, Firmware)),
    **{flag: frozenset({"true", "false"}) for flag in ("maintenance", "protected", "retired")},
}


def expand(patterns: Iterable[str]) -> list[str]:
    """Names of `r1-u[01-03,07]` and commas: r1-u01, r1-u02, r1-u03, r1-u07. Width is kept."""
    found: list[str] = []
    for pattern in patterns:
        for part in _split(pattern):
            found += _expand(part)
            if len(found) > MOST:
                raise UsageError(f"{pattern!r} names more than {MOST} nodes")
    return list(dict.fromkeys(found))


def _split(pattern: str) -> list[str]:
    """At commas that are outside brackets."""
    parts, depth, word = [], 0, ""
    for ch in pattern:
        depth += (ch == "[") - (ch == "]")
        if ch == "," and depth == 0:
            parts.append(word)
            word = ""
        else:
            word += ch
    if depth:
        raise UsageError(f"{pattern!r}: brackets do not match", fix="like r1-u[01-40]")
    return [p.strip() for p in [*parts, word] if p.strip()]


def _expand(part: str) -> list[str]:
    hit = _RANGE.search(part)
    if hit is None:
        if "[" in part or "]" in part:
            raise UsageError(f"{part!r}: brackets do not match", fix="like r1-u[01-40]")
        return [part]
    numbers: list[str] = []
    for item in hit.group(1).split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"{part!r}: {item!r} is not a number or a range", fix="like r1-u[01-40] or r1-u[1,3,5]")
        low, high = int(first), int(last or first)
        if high < low:
            raise UsageError(f"{part!r}: {item!r} runs backwards", fix=f"like [{last}-{first}]")
        if high - low > MOST:
            raise UsageError(f"{part!r} names more than {MOST} nodes")
        numbers += [str(number).zfill(len(first)) for number in range(low, high + 1)]
    tails = _expand(part[hit.end() :]) if hit.end() < len(part) else [""]
    if len(numbers) * len(tails) > MOST:
        raise UsageError(f"{part!r} names more than {MOST} nodes")
    return [part[: hit.start()] + number + tail for number in numbers for tail in tails]


def parse(text: str, images: Mapping[str, str] | None = None) -> Test:
    """`key=value`, `key!=value`, `key~regex`, `key` alone (it is set), joined by and/or/not and parentheses.

    `images`: names of images by id, for the key image.
    """
    parser = _Parser(text, images or {})
    test = parser.either()
    parser.end()
    return test


class _Parser:
    def __init__(self, text: str, images: Mapping[str, str]) -> None:
        self.text = text
        self.images = images
        self.at = 0

    def either(self) -> Test:
        tests = [self.both()]
        while self.word("or"):
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else lambda n: any(t(n) for t in tests)

    def both(self) -> Test:
        tests = [self.one()]
        while self.word("and"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda n: all(t(n) for t in tests)

    def one(self) -> Test:
        if self.word("not"):
            inner = self.one()
            return lambda n: not inner(n)
        if self.sign("("):
            inner = self.either()
            if not self.sign(")"):
                raise self.wrong("a closing parenthesis is missing")
            return inner
        hit = _TERM.match(self.text, self.at)
        if hit is None:
            return self.bare()
        self.at = hit.end()
        key, operator, value = hit.group(1), hit.group(2), hit.group(3).strip("\"'")
        return _image(operator, value, self.images) if key == "image" else _term(key, operator, value)

    def bare(self) -> Test:
        """A key alone: it has a value, other than false."""
        hit = _KEY.match(self.text, self.at)
        if hit is None or hit.group(1).lower() in ("and", "or", "not"):
            raise self.wrong("expected key=value")
        read = _reader(hit.group(1))
        self.at = hit.end()
        return lambda n: (read(n) or "false") not in ("false", "unknown")

    def word(self, word: str) -> bool:
        hit = re.compile(rf"\s*{word}\b", re.IGNORECASE).match(self.text, self.at)
        if hit:
            self.at = hit.end()
        return hit is not None

    def sign(self, sign: str) -> bool:
        hit = re.compile(rf"\s*{re.escape(sign)}").match(self.text, self.at)
        if hit:
            self.at = hit.end()
        return hit is not None

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self.wrong("expected and, or, or the end")

    def wrong(self, what: str) -> UsageError:
        return UsageError(
            f"condition {self.text!r}: {what} at {self.text[self.at : self.at + 20]!r}",
            fix="like: class=compute and (state=available or state=manageable)",
        )


def _term(key: str, operator: str, value: str) -> Test:
    read = _reader(key)
    if key in KNOWN and operator != "~":
        _known_value(key, value)
    if key == "state":
        return _state(operator, value)
    if operator == "~":
        pattern = Pattern(value, time.perf_counter)
        return lambda n: pattern.search(read(n) or "")
    if key == "trait":
        return (lambda n: value in n.traits) if operator == "=" else (lambda n: value not in n.traits)
    return (lambda n: read(n) == value) if operator == "=" else (lambda n: read(n) != value)


def _image(operator: str, value: str, images: Mapping[str, str]) -> Test:
    """By the name that lists show, or by id."""
    pattern = Pattern(value, time.perf_counter) if operator == "~" else None

    def fits(n: Node) -> bool:
        names = [n.image_id, images.get(n.image_id)] if n.image_id else [""]
        return any(pattern.search(name or "") if pattern else name == value for name in names)

    return lambda n: fits(n) is (operator != "!=")


def _state(operator: str, value: str) -> Test:
    """Both of its names, as lists show them: ours ("cleaning") unless it failed, and Ironic's ("clean wait")."""

    def names(n: Node) -> set[str]:
        failed = lifecycle.phase(n) is lifecycle.Phase.FAILED
        return {lifecycle.provision_state(n)} | (set() if failed else {str(n.state)})

    if operator == "~":
        pattern = Pattern(value, time.perf_counter)
        return lambda n: any(pattern.search(name) for name in names(n))
    return lambda n: (value in names(n)) is (operator == "=")


def _known_value(key: str, value: str) -> None:
    """A state that does not exist matches nothing, silently; a typing error is told instead."""
    if value not in KNOWN[key]:
        close = difflib.get_close_matches(value, KNOWN[key], 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(f"{key} {value!r} does not exist{hint}", fix=f"one of: {', '.join(sorted(KNOWN[key]))}")


def _reader(key: str) -> Callable[[Node], str | None]:
    if key.startswith("label."):
        return lambda n: n.labels.get(key.removeprefix("label."))
    if key == "trait":
        return lambda n: " ".join(n.traits)
    if key not in KEYS:
        raise UsageError(
            f"{key!r} is not something to choose by",
            fix=f"a label is label.{key}; other keys: {', '.join([*KEYS, 'trait'])}",
        )
    return KEYS[key]
