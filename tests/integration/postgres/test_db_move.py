"""`baremetal db move`: everything or nothing, compared, and the old file is not used again by mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from baremetal.errors import MachineError, UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import Store, StoreError, events, move, nodes, opened, orders, ports, secrets, tables
from baremetal.store.seal import Sealer

pytestmark = pytest.mark.integration


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A SQLite database with something of everything that is hard to carry."""
    path = tmp_path / "old.db"
    sealer = Sealer(b"1" * 32)

    def fill(conn: Any) -> None:
        for i in range(300):
            node = Node(f"id{i}", f"n{i}", labels={"ä": "ß 😀"}, work={"here": {"x": 0.1 + i}}, wake_at=1.1 * i)
            nodes.insert(conn, node)
            ports.add(conn, node.id, [f"52:54:00:00:{i >> 8:02x}:{i & 255:02x}"])
        orders.insert(conn, orders.OrderRow("o", "id1", "b", "inspect", data={"deep": [1, None, {"y": 2**40}]}))
        secrets.put(conn, sealer, "id1", "bmc-password", Secret("hush"), 1.0)
        for i in range(7):
            events.add(conn, Event(f"e{i}", 1.0 + i, "id1", Kind.SERVER, "x" * 300, "boot", duration_ms=2**40))

    with opened(f"sqlite:///{path}") as store:
        store.write_sync(fill)
    return path


def test_every_row_arrives_and_the_server_goes_on_with_them(old: Path, empty: str) -> None:
    moved = move.move(old, empty)
    assert moved.rows["nodes"] == moved.rows["ports"] == 300
    with opened(empty) as store:
        node = store.read(lambda c: nodes.get(c, "n77"))
        assert (node.labels, node.wake_at) == ({"ä": "ß 😀"}, 1.1 * 77)
        found = store.read(lambda c: secrets.get(c, Sealer(b"1" * 32), "id1", "bmc-password"))
        assert found == Secret("hush")
        assert store.read(events.last_seq) == 7
        store.write_sync(lambda c: events.add(c, Event("new", 9.0, None, Kind.SERVER, "y", "boot")))
        assert store.read(events.last_seq) == 8


def test_the_old_file_is_not_opened_again(old: Path, empty: str) -> None:
    move.move(old, empty)
    with pytest.raises(MachineError, match="moved to PostgreSQL"):
        Store.open(f"sqlite:///{old}")
    with pytest.raises(MachineError, match="moved"):
        move.move(old, empty)


def test_a_database_with_rows_is_refused(old: Path, database: str) -> None:
    with opened(database) as store:
        store.write_sync(lambda c: nodes.insert(c, Node("a", "a")))
    with pytest.raises(UsageError, match="not empty"):
        move.move(old, database)


def test_a_move_that_is_cut_off_leaves_nothing(old: Path, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def dying(conn: Any, table: sa.Table) -> str:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(move, "digest", dying)
    with pytest.raises(KeyboardInterrupt):
        move.move(old, empty)
    monkeypatch.undo()
    with opened(empty) as store:
        assert store.read(nodes.ids) == []
    assert move.move(old, empty).rows["nodes"] == 300


def test_a_difference_undoes_the_move(old: Path, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = move.digest

    def lying(conn: Any, table: sa.Table) -> str:
        return real(conn, table) + ("?" if table is tables.nodes and conn.dialect.name == "postgresql" else "")

    monkeypatch.setattr(move, "digest", lying)
    with pytest.raises(StoreError, match="nodes is not the same"):
        move.move(old, empty)
    with opened(empty) as store:
        assert store.read(nodes.ids) == []


def test_a_running_server_is_in_the_way(old: Path, empty: str) -> None:
    with opened(f"sqlite:///{old}"), pytest.raises(MachineError, match="in use"):
        move.move(old, empty)


def test_as_typed(old: Path, empty: str, tmp_path: Path) -> None:
    config = tmp_path / "b.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    old.rename(tmp_path / "baremetal.db")
    command = [sys.executable, "-m", "baremetal", "db", "move", empty, "--config", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["nodes"] == 300
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 8
    assert "was moved" in again.stderr
