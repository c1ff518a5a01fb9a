"""A span of time that ended while the server was down is over when it comes back."""

from __future__ import annotations

import asyncio
from typing import Any

from baremetal.store import waits


async def test_a_wait_step_that_ended_meanwhile_goes_on_at_once(bench: Any) -> None:
    await bench.to("n1", "available")
    wait = {"interface": "deploy", "step": "wait", "args": {"seconds": 1}, "priority": 95}
    await bench.ask("n1", "deploy", image="web", steps=[wait])
    node = await bench.when("n1", lambda n: n.wait is not None and n.work.get("topic") == waits.SPAN)
    await bench.con.stop()
    bench.store.close()
    while bench.con.clock.now() < node.wait.until:  # noqa: ASYNC110 (a span of time)
        await asyncio.sleep(0.05)
    bench.open()
    await bench.start()
    node = await bench.until("n1", "active")
    assert node.fault is None
    assert bench.rack.boxes["n1"].written == 1
