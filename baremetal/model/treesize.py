"""How large a document is when it is written out: YAML's aliases let ten lines stand for a billion values."""

from __future__ import annotations

from typing import Any

MOST = 1_000_000  # values of one document that a person wrote, aliases written out
ENDLESS = -1


def written_out(doc: Any) -> int:
    """How many values the document has, each as often as it is named; ENDLESS when it contains itself."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()
    todo: list[tuple[Any, bool]] = [(doc, False)]
    while todo:
        value, leaving = todo.pop()
        children, mark = _children(value), id(value)
        if leaving:
            inside.discard(mark)
            sizes[mark] = 1 + sum(sizes.get(id(child), 1) for child in children)
        elif mark in inside:
            return ENDLESS
        elif children and mark not in sizes:
            inside.add(mark)
            todo.append((value, True))
            todo += [(child, False) for child in children]
    return sizes.get(id(doc), 1)


def too_large(doc: Any) -> str:
    """Why it cannot be used; "" when it can."""
    count = written_out(doc)
    if count == ENDLESS:
        return "an alias contains itself"
    return f"its aliases, written out, make {count} values" if count > MOST else ""


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set)) else []
