"""Sealed secrets by owner and field; sealing is the caller's (seal.Sealer)."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from baremetal.secrets import Secret
from baremetal.store.seal import Sealer
from baremetal.store.tables import secrets

BMC_PASSWORD = "bmc-password"  # noqa: S105 (the name of a field)


_SEALED = select(secrets.c.sealed).where(secrets.c.owner == bindparam("owner"), secrets.c.field == bindparam("field"))


def put(conn: Connection, sealer: Sealer, owner: str, field: str, secret: Secret, now: float) -> None:
    """Store or replace."""
    values = {"sealed": sealer.seal(secret, owner, field), "updated_at": now}
    where = (secrets.c.owner == owner) & (secrets.c.field == field)
    if conn.execute(update(secrets).where(where).values(values)).rowcount == 0:
        conn.execute(insert(secrets).values(owner=owner, field=field, **values))


def get(conn: Connection, sealer: Sealer, owner: str, field: str) -> Secret | None:
    """What was stored, None when nothing was."""
    sealed = conn.execute(_SEALED, {"owner": owner, "field": field}).scalar()
    return sealer.open(sealed, owner, field) if sealed is not None else None


def has(conn: Connection, owner: str, field: str) -> bool:
    """Is there one? Opens nothing."""
    return conn.execute(_SEALED, {"owner": owner, "field": field}).first() is not None


def with_prefix(conn: Connection, sealer: Sealer, prefix: str) -> dict[str, dict[str, str]]:
    """{owner: {rest of the field: value}} of all fields that begin so."""
    found: dict[str, dict[str, str]] = {}
    for row in conn.execute(select(secrets).where(secrets.c.field.startswith(prefix, autoescape=True))):
        value = sealer.open(row.sealed, row.owner, row.field).reveal()
        found.setdefault(row.owner, {})[row.field.removeprefix(prefix)] = value
    return found


def names(conn: Connection, prefix: str) -> list[tuple[str, str, float]]:
    """(owner, rest of the field, when stored) of all fields that begin so; opens none."""
    query = select(secrets.c.owner, secrets.c.field, secrets.c.updated_at)
    rows = conn.execute(
        query.where(secrets.c.field.startswith(prefix, autoescape=True)).order_by(*query.selected_columns)
    )
    return [(row.owner, row.field.removeprefix(prefix), row.updated_at) for row in rows]


def drop(conn: Connection, owner: str, field: str) -> bool:
    """One secret; was there one?"""
    return conn.execute(delete(secrets).where(secrets.c.owner == owner, secrets.c.field == field)).rowcount == 1


def forget(conn: Connection, owner: str) -> None:
    """Every secret of this owner."""
    conn.execute(delete(secrets).where(secrets.c.owner == owner))


def reseal(conn: Connection, sealer: Sealer, now: float) -> int:
    """Seal everything with the sealer's first key (key rotation). Returns how many."""
    rows = conn.execute(select(secrets)).all()
    for row in rows:
        put(conn, sealer, row.owner, row.field, sealer.open(row.sealed, row.owner, row.field), now)
    return len(rows)
