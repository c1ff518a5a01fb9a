"""Messages survive a crash, stay in order and bounded; the link comes back and catches up."""

import pytest
from conftest_bootplane import KEY, until, view

from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool, SpoolFull
from baremetal.bootplane.state import State
from baremetal.protocol.plane import Message, Snapshot


def message(n, kind="report", size=0):
    return Message(f"m{n}", kind, float(n), "n1", {"report": {"outcome": "done"}, "x": "y" * size})


def ids(spool):
    return [m.id for m in spool.head(10_000, 1 << 30)]


def test_what_is_not_acknowledged_survives_a_kill(tmp_path):
    spool = Spool(tmp_path / "s")
    for n in range(5):
        spool.put(message(n), sync=n == 4)
    spool.acknowledge(["m0", "m1"])
    again = Spool(tmp_path / "s")  # no close: the process was killed
    assert ids(again)[-3:] == ["m2", "m3", "m4"]


def test_torn_and_foreign_lines_are_dropped(tmp_path):
    spool = Spool(tmp_path / "s")
    spool.put(message(1))
    with (tmp_path / "s").open("ab") as file:
        file.write(b'rubbish\n{"id":"m2","kind":"rep')
    again = Spool(tmp_path / "s")
    assert ids(again) == ["m1"]
    again.put(message(3))
    assert ids(Spool(tmp_path / "s")) == ["m1", "m3"]


def test_a_full_spool_drops_sightings_first_and_then_refuses(tmp_path):
    spool = Spool(tmp_path / "s", limit=10_000)
    for n in range(30):
        spool.put(message(n, "beat", 200))
    for n in range(30, 38):
        spool.put(message(n, "report", 1000))
    assert spool.dropped
    spool.put(message(38, "report", 700))
    with pytest.raises(SpoolFull):
        spool.put(message(39, "report", 1000))
    assert {m.kind for m in spool.head(100, 1 << 30)} == {"report"}


def test_full_disk_is_said_and_leaves_whole_lines():
    spool = Spool.__new__(Spool)  # /dev/full says ENOSPC to every write
    import collections
    import io
    import pathlib

    spool._path, spool._limit = pathlib.Path("/dev/full"), 1 << 20
    spool._waiting, spool._bytes, spool._file_bytes, spool.dropped = collections.OrderedDict(), 0, 0, 0
    spool._file = io.FileIO("/dev/full", "w")
    with pytest.raises(SpoolFull) as error:
        spool.put(message(1))
    assert "df -h" in error.value.fix
    assert len(spool) == 0


def test_acknowledged_messages_leave_the_file(tmp_path):
    spool = Spool(tmp_path / "s")
    for n in range(400):
        spool.put(message(n, size=1000))
    spool.acknowledge([f"m{n}" for n in range(399)])
    assert (tmp_path / "s").stat().st_size < 2000
    assert ids(Spool(tmp_path / "s")) == ["m399"]


async def test_messages_spooled_while_control_is_away_arrive_once_in_order(rig):
    await rig.control.stop()
    await until(lambda: not rig.link.synced)
    for n in range(500):
        rig.link.tell("lease", "n1", {"n": n})
    await rig.control.start()
    await until(lambda: len(rig.control.seen) >= 500 and not len(rig.spool))
    assert [m.body["n"] for m in rig.control.seen if m.kind == "lease"] == list(range(500))


async def test_boot_plane_that_starts_alone_knows_its_nodes(rig, tmp_path):
    await rig.link._write_copy()
    path = tmp_path / "snapshot"
    state = State()
    link = Link(tmp_path / "nowhere", state, Spool(tmp_path / "other"), SnapshotCopy(path, KEY))
    assert link.recall()
    assert state.by_mac("52:54:00:00:00:01").view.node == "n1"
    content = path.read_bytes()
    assert b"name-n1" not in content  # sealed: it holds what nodes are configured with
    assert path.stat().st_mode & 0o777 == 0o600
    for damaged, key in ((content[:-1], KEY), (b"", KEY), (content, b"\1" * 32)):
        path.write_bytes(damaged)
        assert not Link(tmp_path / "nowhere", State(), Spool(tmp_path / "o2"), SnapshotCopy(path, key)).recall()


async def test_a_large_snapshot_comes_whole(rig):
    nodes = [view(f"n{n}", record={"macs": (), "because": "x" * 4000}) for n in range(1500)]
    rig.control.snapshot = Snapshot(nodes=[n.to_json() for n in nodes])
    rig.control.link.push_all()
    await until(lambda: len(rig.state.nodes) == 1500)
    assert "vmlinuz" not in rig.state.snapshot.artifacts


async def test_gone_nodes_are_forgotten(rig):
    rig.control.push(gone=["n1"])
    await until(lambda: not rig.state.nodes)
    assert rig.state.by_mac("52:54:00:00:00:01") is None
    assert rig.state.by_address("127.0.0.1") is None


async def test_store_that_fails_is_waited_for(rig, monkeypatch):
    import baremetal.api.planelink as planelink

    monkeypatch.setattr(planelink, "STORE_RETRY_S", 0.01)
    failures = iter([RuntimeError("database is locked")] * 3)

    async def flaky(batch):
        for error in failures:
            raise error
        rig.control.seen += batch

    rig.control.messages = flaky
    rig.link.tell("lease", "n1", {"n": 1})
    await until(lambda: any(m.kind == "lease" for m in rig.control.seen))
    await until(lambda: not len(rig.spool))


async def test_a_message_that_nothing_can_store_holds_up_no_other(rig, monkeypatch):
    import baremetal.api.planelink as planelink

    monkeypatch.setattr(planelink, "STORE_RETRY_S", 0.001)

    async def never(batch):
        if any(message.body.get("n") == 1 for message in batch):
            raise OverflowError("too large")
        rig.control.seen += batch

    rig.control.messages = never
    rig.link.tell("lease", "n1", {"n": 1})
    rig.link.tell("lease", "n1", {"n": 2})
    await until(lambda: any(m.body.get("n") == 2 for m in rig.control.seen))
    await until(lambda: not len(rig.spool))


async def test_unknown_and_unreadable_frames_do_not_end_the_boot_plane(rig):
    (peer,) = rig.control.link._peers
    peer.write(b'{"t":"something new"}\n')
    peer.write(b"rubbish\n")
    await until(lambda: rig.control.link._peers - {peer} and rig.link.synced)
