"""Tells the server how far an order is, at most once a second, from a thread of its own.

While an order runs nobody else uses the client. A progress report may be lost;
it never slows the work down. When the server says that this boot is over
(401), the next progress() raises OrderAborted in the worker.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Optional, Tuple, Union

from baremetal.agents.http import Client, ServerSaid
from baremetal.agents.servers import Servers
from baremetal.agents.trouble import OrderAborted
from baremetal.errors import BaremetalError
from baremetal.protocol import agent as words

EVERY_S = 1.0
SAY_EVERY_S = 5.0
ALIVE_S = 10.0  # a step that stands still is told again: long erasing is no dead agent
Step = Tuple[str, int, int, str]


class Reporter:
    """Context manager around one order."""

    def __init__(
        self, client: Union[Client, Servers], order_id: str, say: Callable[[str], None], every_s: float = EVERY_S
    ) -> None:
        self._client = client
        self._order_id = order_id
        self._say = say
        self._every_s = every_s
        self._latest: Optional[Step] = None
        self._sent: Optional[Step] = None
        self._sent_at = 0.0
        self._rate_from: Optional[Tuple[float, str, int]] = None  # when, stage, done
        self._said_at = 0.0
        self._ended = threading.Event()
        self._dead = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Where the work stands. Cheap; raises OrderAborted when the server ended this boot."""
        self._latest = (stage, done, total, unit)
        if self._thread.ident is None:
            self._thread.start()
        if self._dead >= 3:
            raise OrderAborted("the server ended this boot while the order was running", fix="see the node's timeline")

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            step = self._latest
            if step is not None and (step != self._sent or time.monotonic() - self._sent_at > ALIVE_S):
                self._print(step)
                self._send(step)

    def _send(self, step: Step) -> None:
        stage, done, total, unit = step
        data: Dict[str, Any] = {"stage": stage, "done": done, "total": total, "unit": unit}
        rate = self._rate(stage, done)
        if rate is not None:
            data["rate"] = rate
        report = words.Report(self._order_id, words.PROGRESS, data=data)
        try:
            answer = self._client.request("POST", f"{words.AGENT_ROOT}/report", body=report.to_bytes(), timeout_s=5)
            answer.expect(200)
            self._sent, self._sent_at, self._dead = step, time.monotonic(), 0
        except ServerSaid as exc:
            self._dead += exc.status == 401
        except BaremetalError:
            pass  # the server is away; the work goes on

    def _rate(self, stage: str, done: int) -> Optional[int]:
        """Units a second since the last report of this stage, None for its first."""
        now, before = time.monotonic(), self._rate_from
        self._rate_from = (now, stage, done)
        if before is None or before[1] != stage or now <= before[0]:
            return None
        return max(0, round((done - before[2]) / (now - before[0])))

    def _print(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            stage, done, total, unit = step
            amount = f"{done >> 20}/{total >> 20} MiB" if unit == "bytes" else f"{done}/{total} {unit}"
            self._say(f"{stage} {amount}")
