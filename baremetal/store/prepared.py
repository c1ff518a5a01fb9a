"""Statements built once: SQLAlchemy then neither builds nor hashes them again (half the cost of a small write).

Values are bound by name with the prefix v_, keys with k_.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_UPDATES: dict[tuple[str, tuple[str, ...], str], Any] = {}


def insert(table: sa.Table) -> Any:
    """INSERT of all columns."""
    key = (table.name, (), "insert")
    if key not in _UPDATES:
        _UPDATES[key] = table.insert()
    return _UPDATES[key]


def update(
    conn: Connection, table: sa.Table, where: Any, keys: Mapping[str, Any], values: Mapping[str, Any], name: str
) -> int:
    """UPDATE of these columns, rows changed. `where` binds its keys as k_…, `name` tells it from other conditions."""
    columns = tuple(sorted(values))
    statement = _UPDATES.get((table.name, columns, name))
    if statement is None:
        bound = {column: sa.bindparam(f"v_{column}", type_=table.c[column].type) for column in columns}
        statement = _UPDATES[(table.name, columns, name)] = table.update().where(where).values(bound)
    parameters = {f"v_{column}": values[column] for column in columns} | {f"k_{k}": v for k, v in keys.items()}
    return conn.execute(statement, parameters).rowcount
