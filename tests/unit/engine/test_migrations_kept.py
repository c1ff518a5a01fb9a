"""A database of every released schema is brought up with its rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from baremetal.store import opened, schema
from baremetal.store.store import make_engine

RELEASED = ["0001"]


@pytest.mark.parametrize("revision", RELEASED)
def test_rows_survive_the_way_up(tmp_path: Path, revision: str) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = make_engine(url)
    schema.upgrade(engine, url, to=revision)
    with engine.begin() as conn:
        columns = [c["name"] for c in sa.inspect(conn).get_columns("nodes") if not c["nullable"]]
        known = {"id": "i", "name": "n1", "state": "active", "power": "on", "firmware": "bios", "arch": "x86_64"}
        zero = {
            c: 0 for c in columns if c.endswith(("_at", "_since")) or c in ("fence", "evidence", "protected", "retired")
        }
        lists = {
            c: "[]" if c == "traits" else "{}"
            for c in columns
            if c not in {**known, **zero, "bmc_url": 0, "resource_class": 0}
        }
        row = {**known, **zero, **lists, "bmc_url": "", "resource_class": "x"}
        names = ", ".join(row)
        conn.execute(sa.text(f"INSERT INTO nodes ({names}) VALUES ({', '.join(':' + k for k in row)})"), row)
    engine.dispose()
    with opened(url) as store:
        from baremetal.store import nodes

        assert schema.current(store.engine) == schema.HEAD
        node = store.read(lambda c: nodes.get(c, "n1"))
        assert (str(node.state), node.extra) == ("active", {})
