"""A secret that cannot be printed.

`Secret` wraps a password or token so that no log line, traceback, event or
JSON document shows it by accident; `reveal()` is the one way out and easy to
find in a review.
"""

from __future__ import annotations

MASK = "******"


class Secret:
    """Text that shows as ****** everywhere but in reveal()."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it only where it leaves for its owner."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled; reveal() it and seal it where it is stored")
