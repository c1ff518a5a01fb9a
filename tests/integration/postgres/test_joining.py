"""Who may join: wrong site or release, taken name, half a schema, a pooler in the way; what a lost lease forbids."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fleet_import import pg_cluster

from baremetal.bootplane.standing import Standing
from baremetal.engine import lease as lease_module
from baremetal.engine import takeover
from baremetal.engine.cluster import Cluster
from baremetal.engine.joining import refuse_transaction_pooler, release_of
from baremetal.engine.lease import LEASE_S, TAKEOVER_S, LeaseLost
from baremetal.errors import MachineError
from baremetal.model.node import Node, Wait
from baremetal.store import nodes, opened, postgres, servers, waits

pytestmark = pytest.mark.integration

Make = Callable[..., Cluster]


@pytest.fixture
def join(database: str) -> Iterator[Make]:
    """Servers that joined; they leave at the end."""
    made: list[Cluster] = []

    def one(
        name: str = "a", *, version: str = "0.1.0", site: str = "site", elsewhere: bool = False, **more: Any
    ) -> Cluster:
        cluster = Cluster(database, name=name, version=version, site=site, pools=["prov"], **more)
        if elsewhere:  # as if it were another host: its process cannot be looked for
            cluster.me = dataclasses.replace(cluster.me, host="elsewhere")
            cluster.lease.me = cluster.me
        made.append(cluster)
        cluster.open_store()
        cluster.join()
        return cluster

    yield one
    for cluster in made:
        with contextlib.suppress(Exception):
            cluster.leave()
        if cluster.store is not None:
            cluster.store.close()


def test_one_leads_and_one_gives_out_the_addresses(join: Make) -> None:
    one, two = join("a"), join("b")
    assert one.lease.holds == {"leader", "pool:prov"}
    assert one.pools() == ["prov"]
    assert two.lease.holds == frozenset()
    one.leave()
    _until(lambda: two.lease.holds == {"leader", "pool:prov"}, 60)
    _until(lambda: two.pools() == ["prov"], 60)  # the other left in good order: nothing to wait for


def test_who_takes_a_range_from_one_that_was_killed_waits_until_that_one_must_be_silent(join: Make) -> None:
    one, two = join("a"), join("b")
    beaten = time.monotonic()
    one.lease.abandon()
    _until(lambda: "pool:prov" in two.lease.holds, 60)
    assert two.pools() == []
    _until(lambda: two.pools() == ["prov"], 60)
    assert time.monotonic() - beaten >= LEASE_S


def test_nodes_at_rest_are_shared_out_without_gap_or_overlap(join: Make) -> None:
    shares = [c.share() for c in (join("a"), join("b"), join("c"))]
    counts = [sum(share(f"node-{i}") for share in shares) for i in range(200)]
    assert set(counts) == {1}


def test_another_site_is_refused(join: Make) -> None:
    join("a")
    with pytest.raises(MachineError, match="another site") as caught:
        join("b", site="other keys")
    assert "keys" in caught.value.fix


@pytest.mark.parametrize(
    ("theirs", "ours", "good"), [("0.1.0", "0.2.0", True), ("0.1.9", "0.3.0", False), ("0.3.0", "0.1.0", False)]
)
def test_servers_may_be_one_release_apart(join: Make, theirs: str, ours: str, good: bool) -> None:
    join("a", version=theirs)
    if good:
        join("b", version=ours)
        return
    with pytest.raises(MachineError, match="2 releases apart"):
        join("b", version=ours)


def test_releases_are_numbers() -> None:
    assert [release_of(v) for v in ("0.7.3", "1.2", "1.10.0rc1")] == [7, 1002, 1010]


def test_a_name_that_lives_elsewhere_is_refused(join: Make) -> None:
    join("a", elsewhere=True)
    with pytest.raises(MachineError, match="lives already") as caught:
        join("a")
    assert "server_name" in caught.value.fix
    assert "elsewhere" in caught.value.detail


def test_a_name_is_free_at_once_when_its_process_here_is_gone(join: Make) -> None:
    first = join("a")
    first.lease._stop.set()  # it beats no more, and says no farewell
    second = join("a")
    found = {s.id: s for s in second.store.read(servers.newest)} if second.store else {}
    assert [s.id for s in found.values() if s.ended_at is None] == [second.me.id]
    former = found[first.me.id]
    assert former.ended_at is not None
    assert former.ended_at - former.beat_at < TAKEOVER_S, "nobody waited until it was silent for long"


def test_half_a_schema_is_refused(join: Make, database: str) -> None:
    engine = postgres.make_engine(database)
    with engine.begin() as conn:
        conn.execute(sa.text("DROP TABLE orders"))
    engine.dispose()
    with pytest.raises(MachineError, match="lacks orders"):
        join("a")


def test_a_life_that_was_ended_writes_nothing_more(join: Make) -> None:
    lost: list[str] = []
    one, two = join("a", on_lost=lost.append), join("b")
    assert one.store is not None
    assert two.store is not None
    one.store.write_sync(lambda c: nodes.insert(c, Node("x", "x")))
    assert two.store.read(lambda c: takeover.end(c, one.me, two.me.id)) == []
    with pytest.raises(LeaseLost):
        one.store.write_sync(lambda c: nodes.note(c, "x", 1.0))
    assert lost == ["another server"]
    assert two.store.read(lambda c: nodes.get(c, "x")).evidence == 0


def test_what_is_being_written_when_a_life_ends_is_undone(join: Make) -> None:
    """It is inside its transaction, past every check, when the others take over: its session is ended."""
    one, two = join("a"), join("b")
    assert one.store is not None
    assert two.store is not None
    two.store.write_sync(lambda c: nodes.insert(c, Node("x", "x")))
    inside, go_on = threading.Event(), threading.Event()

    def slow(conn: Any) -> None:
        nodes.note(conn, "x", 1.0)
        inside.set()
        go_on.wait(20)

    late = one.store.submit(slow)
    assert inside.wait(10)
    two.store.read(lambda c: takeover.end(c, one.me, two.me.id))
    go_on.set()
    with pytest.raises(Exception, match=r"terminat|closed|lost|ended"):
        late.result(20)
    assert two.store.read(lambda c: nodes.get(c, "x")).evidence == 0


def waiting(node_id: str, until: float, topic: str = "hello") -> Node:
    wait = Wait("it must say hello", until, until - 600)
    return Node(node_id, node_id, wanted="deploy", wait=wait, wake_at=until, work={"topic": topic})


def drive(conn: Any, node_id: str, by: Cluster) -> None:
    conn.execute(servers.drivers.insert().values(node_id=node_id, server_id=by.me.id, since=1.0))


def test_what_a_healthy_server_waits_for_ends_when_it_was_to(join: Make) -> None:
    """A server that starts over and over must not keep the others' nodes from ever being given up."""
    one, two, three = join("a"), join("b"), join("c")
    store = one.store
    assert store is not None
    now = store.read(servers.now)

    def write(conn: Any) -> int:
        for name, by in (("ours", one), ("theirs", two), ("nobodys", None)):
            nodes.insert(conn, waiting(name, now))
            if by:
                drive(conn, name, by)
        nodes.insert(conn, waiting("span", now, waits.SPAN))
        return waits.extend(conn, now + 60, three.me.id)

    def until(name: str) -> float:
        wait = store.read(lambda c: nodes.get(c, name)).wait
        assert wait is not None
        return wait.until - now

    assert store.write_sync(write) == 1
    assert {n: until(n) for n in ("ours", "theirs", "nobodys", "span")} == {
        "ours": 0, "theirs": 0, "nobodys": 60, "span": 0,
    }  # fmt: skip
    assert one.store is not None
    one.store.read(lambda c: takeover.end(c, two.me, one.me.id))
    assert until("ours") == 0
    assert 60 <= until("theirs") < 120, "nobody heard what it waits for until it was taken over"
    assert store.write_sync(lambda c: waits.extend(c, now + 200, one.me.id)) == 3, "the database was away from us"


def test_who_cannot_beat_stops_acting_before_others_take_over(join: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = join("a")
    monkeypatch.setattr(lease_module.servers, "beat", lambda *a: (_ for _ in ()).throw(OSError("cut")))
    time.sleep(LEASE_S + 1.2)
    assert not one.lease.held()
    with pytest.raises(LeaseLost):
        one.lease.check()
    assert LEASE_S + 1 < TAKEOVER_S
    monkeypatch.undo()
    _until(one.lease.held, 60)
    assert one.lease.steady_s() < TAKEOVER_S  # who just came back judges nobody


def test_clocks_minutes_apart_do_not_matter(join: Make, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    real = time.time
    with monkeypatch.context() as there:
        there.setattr("baremetal.engine.lease.time.time", lambda: real() + 300)
        one = join("a")
    two = join("b")
    assert abs(one.clock.now() - two.clock.now()) < 1
    assert "300 s ahead of the database's" in caplog.text
    standing = Standing(shared=True)
    standing.told({"for_s": 4, "now": time.time() - 300})
    assert abs(standing.time() - (time.time() - 300)) < 5


def test_a_boot_plane_is_good_only_as_long_as_it_was_told() -> None:
    standing = Standing(shared=True)
    assert not standing.good()
    frame = {"now": time.time(), "pools": ["prov"], "agents": ["https://a:8443", "https://b:8443"]}
    standing.told({**frame, "for_s": 600})
    assert standing.gives("prov")
    assert not standing.gives("other")
    assert standing.agents_from("https://b:8443") == "https://b:8443,https://a:8443"
    standing.told({**frame, "for_s": 0.01})
    time.sleep(0.02)
    assert not standing.good()
    assert not standing.gives("prov")
    alone = Standing()
    assert alone.good()
    assert alone.gives("prov")


@pytest.mark.parametrize(("mode", "refused"), [("transaction", True), ("session", False)])
def test_a_pooler_in_transaction_mode_is_refused(cluster: Any, database: str, mode: str, refused: bool) -> None:
    with pooler(cluster, mode) as port:
        url = f"postgresql://bm@127.0.0.1:{port}/{database.rpartition('/')[2]}"
        if refused:
            with pytest.raises(MachineError, match="pooler in transaction mode") as caught:
                refuse_transaction_pooler(url)
            assert "session" in caught.value.fix
        else:
            refuse_transaction_pooler(url)
            with opened(url) as store:
                store.write_sync(lambda c: nodes.insert(c, Node("x", "x")))


@contextlib.contextmanager
def pooler(cluster: Any, mode: str) -> Iterator[int]:
    """PgBouncer before the cluster."""
    port = pg_cluster.free_port()
    with tempfile.TemporaryDirectory(prefix="baremetal-bouncer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "users").write_text('"bm" ""\n')
        (directory / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={cluster.port} user=bm\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
            f"listen_port={port}\nauth_type=any\nauth_file={directory}/users\npool_mode={mode}\nunix_socket_dir=\n"
            "ignore_startup_parameters=options,extra_float_digits\n"
        )
        command = ["/usr/sbin/pgbouncer", str(directory / "ini")]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        child = subprocess.Popen(command, stdout=sys.stderr, stderr=subprocess.STDOUT)
        try:
            _until(lambda: _listens(port), 60)
            yield port
        finally:
            child.terminate()
            child.wait(10)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _until(test: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)
