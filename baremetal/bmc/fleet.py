"""One question to many BMCs, answers in the order they come.

For the verbs that need no server: nothing is stored, sessions last for one
question. Every host gets exactly one verdict, whatever happens to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from baremetal.bmc.careful import Care, Careful
from baremetal.bmc.drivers import driver
from baremetal.bmc.faults import BmcError, BmcTimeout
from baremetal.bmc.hosts import Target
from baremetal.errors import BaremetalError
from baremetal.secrets import Secret

Question = Callable[[Careful], Awaitable[dict[str, Any]]]
# Sockets at once; more hosts wait for their turn.
MOST_AT_ONCE = 1024
_SPARE_FILES = 64


def places() -> int:
    """How many BMCs can be talked to at once here: as the file limit allows, after raising it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = MOST_AT_ONCE + _SPARE_FILES
    if soft < want:
        soft = want if hard == resource.RLIM_INFINITY else min(want, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(8, min(MOST_AT_ONCE, soft - _SPARE_FILES))


async def ask_all(
    targets: Sequence[Target],
    question: Question,
    *,
    password: Secret,
    kg: Secret | None = None,
    deadline_s: float = 60.0,
    care: Care | None = None,
    at_once: int | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Asks every target; yields `{"host", …}` or `{"host", "error"}` as they complete."""
    care = replace(care or Care(), auth_rest_s=0.0)  # asked once: there is no next time to wait for
    limit = asyncio.Semaphore(at_once or places())
    done: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def one(target: Target) -> None:
        async with limit:
            with contextlib.suppress(asyncio.CancelledError):
                await _one(target, question, target.password or password, kg, deadline_s, care, done)

    tasks = [asyncio.create_task(one(target)) for target in targets]
    try:
        for _ in targets:
            yield await done.get()
        await asyncio.gather(*tasks)  # sessions are being closed
    finally:
        for task in tasks:
            task.cancel()


async def _one(
    target: Target,
    question: Question,
    password: Secret,
    kg: Secret | None,
    deadline_s: float,
    care: Care | None,
    done: asyncio.Queue[dict[str, Any]],
) -> None:
    bmc: Careful | None = None
    verdict: dict[str, Any] = {"host": target.host}
    try:
        if target.error or target.url is None:
            raise target.error or BmcError(f"{target.host}: no address")
        bmc = Careful(driver(target.url, password.reveal(), kg.reveal() if kg else None), target.host, care)
        async with asyncio.timeout(deadline_s):
            verdict |= await question(bmc)
    except TimeoutError:
        verdict["error"] = told(
            BmcTimeout(f"{target.host}: no verdict within {deadline_s:.0f} s", fix="raise --timeout")
        )
    except BaremetalError as exc:
        verdict["error"] = told(exc)
    except asyncio.CancelledError:
        raise
    except Exception as exc:  # one driver's bug must not take the other verdicts along
        verdict["error"] = {"code": "bmc-error", "brief": f"{target.host}: driver failed: {type(exc).__name__}"}
    finally:
        done.put_nowait(verdict)
        if bmc is not None:
            with contextlib.suppress(BaremetalError, OSError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await bmc.close()


def told(exc: BaremetalError) -> dict[str, str]:
    """An error as a verdict carries it."""
    if isinstance(exc, BmcError):
        return exc.to_json()
    doc = {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}
    return {key: value for key, value in doc.items() if value}
