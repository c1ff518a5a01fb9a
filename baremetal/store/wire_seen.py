"""What the boot plane saw on the wire: leases (a mirror of its journal) and machines nobody knows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from baremetal.store.tables import leases, strangers

MOST_STRANGERS = 5000


def put_lease(conn: Connection, mac: str, address: str, network: str, expires: float, now: float) -> bool:
    """A lease was given or renewed; an older message never replaces a newer one. True when the address is new."""
    known = conn.execute(sa.select(leases.c.expires, leases.c.address).where(leases.c.mac == mac)).first()
    if known is not None and known.expires > expires:
        return False
    conn.execute(leases.delete().where(leases.c.mac == mac))
    conn.execute(leases.insert().values(mac=mac, address=address, network=network, expires=expires, seen_at=now))
    return known is None or bool(known.address != address)


def drop_lease(conn: Connection, address: str) -> bool:
    """An operator took this address back; False when nobody had it."""
    return conn.execute(leases.delete().where(leases.c.address == address)).rowcount > 0


def all_leases(conn: Connection) -> list[dict[str, Any]]:
    """Every lease by address."""
    return [dict(row._mapping) for row in conn.execute(sa.select(leases).order_by(leases.c.address))]


def network_of(conn: Connection, mac: str) -> str | None:
    """The network on which this MAC was last given an address."""
    return conn.execute(sa.select(leases.c.network).where(leases.c.mac == mac)).scalar()


def address_of(conn: Connection, mac: str) -> str | None:
    """The address last leased to this MAC."""
    return conn.execute(sa.select(leases.c.address).where(leases.c.mac == mac)).scalar()


def meet(conn: Connection, mac: str, now: float, **facts: Any) -> None:
    """A machine nobody knows asked for something."""
    facts = {k: facts.get(k) for k in ("uuid", "arch", "loader", "network")}
    again = {**facts, "last_seen": now, "seen": strangers.c.seen + 1}
    if conn.execute(strangers.update().where(strangers.c.mac == mac).values(again)).rowcount == 0:
        conn.execute(strangers.insert().values(mac=mac, first_seen=now, last_seen=now, seen=1, **facts))
        _make_room(conn)


def _make_room(conn: Connection) -> None:
    """Addresses can be invented: those not seen for longest go when there are too many."""
    if (conn.execute(sa.select(sa.func.count()).select_from(strangers)).scalar() or 0) > MOST_STRANGERS:
        oldest = sa.select(strangers.c.mac).order_by(strangers.c.last_seen).limit(MOST_STRANGERS // 10)
        conn.execute(strangers.delete().where(strangers.c.mac.in_(oldest)))


def all_strangers(conn: Connection, limit: int = 1000) -> list[dict[str, Any]]:
    """Machines nobody knows, latest first."""
    query = sa.select(strangers).order_by(strangers.c.last_seen.desc()).limit(limit)
    return [dict(row._mapping) for row in conn.execute(query)]


def forget_stranger(conn: Connection, mac: str) -> None:
    """It is a node now."""
    conn.execute(strangers.delete().where(strangers.c.mac == mac))
