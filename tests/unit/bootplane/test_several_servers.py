"""A boot plane of several: silent when control's word runs out, reports stored first, unknown tokens asked for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from conftest_bootplane import sha, until, view

from baremetal.protocol.agent import Report

TOKEN = "a" * 64
HEAD = {"Authorization": f"Bearer {TOKEN}"}


def _told(rig: Any, for_s: float) -> None:
    rig.control.link.tell(
        {"t": "lease", "for_s": for_s, "now": time.time() + 100, "pools": [], "agents": ["https://b:1"]}
    )


async def test_nothing_is_answered_that_may_be_out_of_date(rig: Any) -> None:
    rig.control.push(view(ramdisk_token_sha256=sha(TOKEN), nonce_key="11" * 32))
    _told(rig, 600)
    await until(lambda: rig.state.standing.good() and rig.state.by_token(TOKEN))
    async with rig.session.get(rig.http + "/boot/52-54-00-00-00-01.ipxe") as answer:
        assert answer.status == 200
        assert ",https://b:1 baremetal.nonce" in await answer.text()
    held = asyncio.create_task(rig.session.get(rig.https + "/order?wait=30", headers=HEAD))
    await until(lambda: len(rig.apps.wakeups) == 1)
    _told(rig, 0.05)  # and nothing more
    await until(lambda: not rig.state.standing.good())
    rig.apps.wakeups.wake_all()  # the boot process does that when the word runs out
    assert (await held).status == 503
    async with rig.session.get(rig.http + "/boot/52-54-00-00-00-01.ipxe") as answer:
        assert answer.status == 503
    async with rig.session.get(rig.http + "/artifacts/vmlinuz") as answer:
        assert answer.status == 200  # that cannot be out of date


async def test_a_report_is_acknowledged_when_control_has_stored_it(rig: Any) -> None:
    rig.control.push(view(ramdisk_token_sha256=sha(TOKEN)))
    _told(rig, 30)
    await until(lambda: rig.state.standing.shared and rig.state.by_token(TOKEN))
    body = Report("o1", "done", {}).to_json()
    async with rig.session.post(rig.https + "/report", json=body, headers=HEAD) as answer:
        assert answer.status == 200
    assert [m.kind for m in rig.control.seen if m.kind == "report"] == ["report"]
    assert rig.control.seen[-1].time > time.time() + 90  # the database's clock
    await rig.control.stop()
    async with rig.session.post(rig.https + "/report", json=body, headers=HEAD) as answer:
        assert answer.status == 503  # the agent says it to another server


async def test_a_token_that_another_server_gave_is_asked_for(rig: Any) -> None:
    _told(rig, 30)
    await until(lambda: rig.state.standing.shared)

    async def call(kind: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (kind, body) == ("token", {"sha256": sha(TOKEN)})
        rig.control.push(view(ramdisk_token_sha256=sha(TOKEN), order={"id": "o1", "kind": "inspect", "args": {}}))
        return {"known": True}

    rig.control.call = call
    async with rig.session.get(rig.https + "/order", headers=HEAD) as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, "o1")
