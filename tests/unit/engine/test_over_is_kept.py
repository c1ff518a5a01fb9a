"""A console said that a boot has ended; the server ended too, before anyone acted on it. The next one need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.model.event import Kind
from baremetal.secrets import Secret
from baremetal.store import StoreError, events
from baremetal.workflows import causes
from baremetal.workflows import recorder as recorder_module
from baremetal.workflows.recorder import Recorder
from baremetal.workflows.simulated import Timing

PANIC = b"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"


class LastWords:
    """A console that says one line and then nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield PANIC
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def last_words(_url: str, _password: Secret) -> Any:
    return LastWords()


async def test_what_a_console_said_while_the_database_was_away_is_stored_when_it_is_back(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "STORE_S", 0.02)
    node = await bench.to("n1", "manageable")
    honest, failures = bench.store.write, [3]

    async def away(write: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise StoreError("database: it is away")
        return await honest(write)

    bench.rack.boxes["n1"].faults.add("no-dhcp")
    await bench.ask("n1", "inspect")
    node = await bench.when("n1", lambda n: n.wait is not None)
    monkeypatch.setattr(bench.store, "write", away)
    recorder = Recorder(bench.con.world, tmp_path / "console", last_words)
    recorder.watch(node)
    try:
        await bench.when("n1", lambda n: causes.SAID in said(bench, node.id))
    finally:
        await recorder.stop()
    assert failures == [0]


def said(bench: Any, node_id: str) -> list[str]:
    found = bench.store.read(lambda c: events.of_node(c, node_id, kinds=[str(Kind.CONSOLE)]))
    return [event.stage for event in found]


async def test_a_restarted_server_knows_that_a_boot_is_over(make_bench: Any, tmp_path: Path) -> None:
    async with make_bench(post_s=600.0, boot_s=600.0, hello_s=600.0, boot_tries=2) as bench:
        await bench.enroll("n1")
        await bench.until("n1", "manageable")
        bench.rack.timing = Timing(post_s=600.0)
        await bench.ask("n1", "inspect")
        node = await bench.when("n1", lambda n: str(n.work.get("topic", "")).startswith("hello "))
        await bench.con.stop()
        recorder = Recorder(bench.con.world, tmp_path / "console", last_words)
        recorder.watch(node)
        async with asyncio.timeout(90):
            while causes.SAID not in said(bench, node.id):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await recorder.stop()
        bench.store.close()
        bench.open()
        await bench.start()
        again = await bench.when("n1", lambda n: n.boot_id != node.boot_id)
        assert again.wanted == "inspect"
