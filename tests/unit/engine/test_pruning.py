"""What is long over is forgotten, and what is not stays."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from baremetal.store import servers
from baremetal.store.servers import Server
from baremetal.workflows import imagegone
from baremetal.workflows.pruning import prune

DAY = 86400.0


async def test_lives_and_deletions_of_long_ago(bench: Any) -> None:
    now = bench.con.clock.now()
    image = SimpleNamespace(id="sha256:" + "c" * 64, name="web")

    def fill(conn: Any) -> None:
        for name, ended_at in (("long", now - 40 * DAY), ("lately", now - DAY), ("alive", None)):
            life = Server(name, name, "host", "boot", 1, "0.1.0", "0005")
            conn.execute(servers.servers.insert().values({**vars(life), "ended_at": ended_at}))
        imagegone.remember(conn, image, "test", "a", now - 40 * DAY)

    def left(conn: Any) -> tuple[set[str], int]:
        return {s.id for s in servers.newest(conn)}, len(imagegone.remembered(conn))

    await bench.store.write(fill)
    await bench.store.write(lambda c: prune(c, 30, now))
    assert bench.store.read(left) == ({"lately", "alive"}, 1), "a server that was down for a month hears of it"
    await bench.store.write(lambda c: prune(c, 30, now + 366 * DAY))
    assert bench.store.read(left) == ({"alive"}, 0)


async def test_an_address_that_changes_while_documents_follow_another_is_followed_too(bench: Any) -> None:
    begun, go_on = [], asyncio.Event()

    async def slow() -> None:
        begun.append(True)
        await go_on.wait()

    bench.con.references_changed = slow
    bench.con._moved()
    while not begun:  # noqa: ASYNC110
        await asyncio.sleep(0)
    bench.con._moved()
    go_on.set()
    await bench.con._following
    assert len(begun) == 2
