"""Dataclasses to JSON and back, tolerant of unknown fields, strict about missing ones."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, Type, TypeVar

T = TypeVar("T", bound="Document")


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
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        known = {k: v for k, v in doc.items() if k in fields}
        missing = [
            n
            for n, f in fields.items()
            if n not in known and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise BadDocument(f"{cls.__name__}: {', '.join(missing)} missing")
        return cls(**known)

    @classmethod
    def from_bytes(cls: Type[T], raw: bytes) -> T:
        try:
            return cls.from_json(json.loads(raw))
        except (UnicodeDecodeError, RecursionError, ValueError) as exc:
            if isinstance(exc, BadDocument):
                raise
            raise BadDocument(f"{cls.__name__}: not JSON: {exc}") from None
