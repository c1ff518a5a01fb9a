"""Metadata layers merged into one document of values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def merge(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Later layers win; mappings are merged deeply, lists and scalars replaced, None removes."""
    result: dict[str, Any] = {}
    for layer in layers:
        result = _over(result, layer)
    return result


def _over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = _over(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
