"""A console said that a boot has ended; the server ended too, before anyone acted on it. The next one need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from baremetal.model.event import Kind
from baremetal.secrets import Secret
from baremetal.store import events
from baremetal.workflows import causes
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
            while not any(  # noqa: ASYNC110
                e.stage == causes.SAID
                for e in bench.store.read(lambda c: events.of_node(c, node.id, kinds=[str(Kind.CONSOLE)]))
            ):
                await asyncio.sleep(0.05)
        await recorder.stop()
        bench.store.close()
        bench.open()
        await bench.start()
        again = await bench.when("n1", lambda n: n.boot_id != node.boot_id)
        assert again.wanted == "inspect"
