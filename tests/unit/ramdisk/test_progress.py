"""Progress: seldom, lossy, and the way a running order hears that it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from baremetal.agents import progress
from baremetal.agents.http import Client
from baremetal.agents.progress import Reporter
from baremetal.agents.trouble import OrderAborted


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def client(server: Any) -> Client:
    return Client(server.https_url, ca_file=str(server.ca_file))


def test_only_the_latest_step_is_told(client: Client, server: Any) -> None:
    with Reporter(client, "o1", lambda text: None, every_s=0.05) as reporter:
        for done in range(1000):
            reporter.progress("write", done, 1000, "bytes")
        until(lambda: bool(server.reports))
    assert server.reports[0]["outcome"] == "progress"
    assert server.reports[-1]["data"] == {"stage": "write", "done": 999, "total": 1000, "unit": "bytes"}
    assert len(server.reports) < 200


def test_a_step_that_stands_still_is_told_again(client: Client, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "ALIVE_S", 0.05)
    with Reporter(client, "o1", lambda text: None, every_s=0.01) as reporter:
        reporter.progress("erase", 0, 1, "disks")
        until(lambda: len(server.reports) >= 3)


def test_the_end_of_the_boot_reaches_the_worker(client: Client, server: Any) -> None:
    server.token_dead = True
    with Reporter(client, "o1", lambda text: None, every_s=0.01) as reporter:
        reporter.progress("write", 1, 2, "bytes")

        def aborted() -> bool:
            try:
                reporter.progress("write", 1, 2, "bytes")
            except OrderAborted:
                return True
            return False

        until(aborted)


def test_a_server_that_is_away_stops_nothing() -> None:
    with Reporter(Client("http://127.0.0.1:9"), "o1", lambda text: None, every_s=0.01) as reporter:
        for done in range(5):
            reporter.progress("write", done, 5, "bytes")
            time.sleep(0.02)


def test_the_console_sees_mebibytes(client: Client) -> None:
    said: list[str] = []
    with Reporter(client, "o1", said.append, every_s=0.01) as reporter:
        reporter.progress("write", 5 << 20, 9 << 20, "bytes")
        until(lambda: bool(said))
    assert said == ["write 5/9 MiB"]
