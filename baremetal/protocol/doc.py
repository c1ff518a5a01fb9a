"""Dataclasses to JSON and back, tolerant of unknown fields, strict about missing ones and about types.

Whoever sends a document may be hostile: what comes out of here can be stored
and shown again. No NaN, no infinity, no half of a surrogate pair, no deep
nesting, no dict where a text is expected.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import Any, Callable, Dict, Optional, Tuple, Type, TypeVar

T = TypeVar("T", bound="Document")

MAX_DEPTH = 64  # of nested JSON; an inventory has 6 levels
_TYPES: Dict[str, Tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Dict": (dict,),
    "List": (list,),
}


class BadDocument(ValueError):
    """The other side sent something that is not the document named."""


class Document:
    """Base of every message: to_json/from_json for flat dataclasses."""

    def to_json(self) -> Dict[str, Any]:
        # Not asdict(): it copies whatever is inside, which was half the work of a thousand reports.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]

    def to_bytes(self) -> bytes:
        return json.dumps(self.to_json(), separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls: Type[T], doc: Any) -> T:
        if not isinstance(doc, dict):
            raise BadDocument(f"{cls.__name__}: expected a JSON object, got {type(doc).__name__}")
        checks, required = _fields(cls)  # type: ignore[arg-type]
        known = {k: v for k, v in doc.items() if k in checks}
        missing = [name for name in required if name not in known]
        if missing:
            raise BadDocument(f"{cls.__name__}: {', '.join(missing)} missing")
        for name, value in known.items():
            if not checks[name](value):
                raise BadDocument(f"{cls.__name__}: {name} may not be {type(value).__name__}")
        return cls(**known)

    @classmethod
    def from_bytes(cls: Type[T], raw: bytes, parse: Optional[Callable[[bytes], Any]] = None) -> T:
        """`parse`: instead of the strict loads() below."""
        try:
            return cls.from_json((parse or loads)(raw))
        except (UnicodeDecodeError, RecursionError, ValueError) as exc:
            if isinstance(exc, BadDocument):
                raise
            raise BadDocument(f"{cls.__name__}: not JSON: {exc}") from None


def loads(raw: bytes) -> Any:
    """UTF-8 JSON that can be stored and written again; ValueError or RecursionError otherwise."""
    doc = _DECODER.decode(raw.decode())  # json.loads takes bytes of other encodings, and surrogates in them
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper(doc, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if b"\\ud" in raw or b"\\uD" in raw:  # half of a surrogate pair is no character: it cannot be written as UTF-8
        json.dumps(doc, ensure_ascii=False).encode()
    return doc


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    """A number such as 1e999 is infinite for Python, and no JSON when it is written again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _deeper(doc: Any, most: int) -> bool:
    """Level by level, so that depth costs no stack."""
    level = [doc]
    for _ in range(most):
        inner = []
        for item in level:
            if isinstance(item, dict):
                inner += [v for v in item.values() if isinstance(v, (dict, list))]
            elif isinstance(item, list):
                inner += [v for v in item if isinstance(v, (dict, list))]
        if not inner:
            return False
        level = inner
    return True


@functools.lru_cache(maxsize=None)
def _fields(cls: Any) -> Tuple[Dict[str, Callable[[Any], bool]], Tuple[str, ...]]:
    """(a test for the value of each field, names of those that must be there)."""
    found = dataclasses.fields(cls)
    missing = dataclasses.MISSING
    required = tuple(f.name for f in found if f.default is missing and f.default_factory is missing)
    return {f.name: _test(str(f.type)) for f in found}, required


def _test(annotation: str) -> Callable[[Any], bool]:
    """Does a value fit this annotation? As far as documents have them: Optional, List of a type, Dict."""
    if annotation.startswith("Optional["):
        inner = _test(annotation[len("Optional[") : -1])
        return lambda value: value is None or inner(value)
    outer, _, args = annotation.partition("[")
    types = _TYPES.get(outer)
    if types is None:
        return lambda value: True
    if outer == "List":
        item = _test(args[:-1])
        return lambda value: isinstance(value, list) and all(map(item, value))
    return lambda value: isinstance(value, types)
