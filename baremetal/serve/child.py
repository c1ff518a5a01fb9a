"""What both server processes share: start, "ready", orderly stop, errors on one line.

    python -m baremetal.serve.control | bootproc      started by supervisor.py

What the supervisor hands down is in handover.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from baremetal.config import Settings
from baremetal.errors import EXIT_FAILED, EXIT_OK, BaremetalError
from baremetal.serve import privileges
from baremetal.serve.handover import PARENT, READY_FD, say

Body = Callable[[Settings, "Life"], Awaitable[None]]


class Life:
    """`ready()` once everything is open; `stop` is set when the process must end."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()

    def ready(self) -> None:
        descriptor = os.environ.pop(READY_FD, "")
        if descriptor:
            os.write(int(descriptor), b"ready\n")
            os.close(int(descriptor))

    def drop(self, user: str, *caps: int) -> None:
        """Give up root's rights; the supervisor's death still ends us."""
        left = privileges.drop(user, caps)
        if parent := os.environ.get(PARENT):
            privileges.die_with_parent(int(parent))
        logging.getLogger("baremetal").info("%s", privileges.describe(left))


def run(name: str, body: Body) -> int:
    """Run one server process to its end; returns its exit code."""
    os.umask(0o077)  # what is for everybody (artifacts) is made so explicitly
    try:
        settings = Settings.load()
        set_up_log(name, settings.log_level)
        if parent := os.environ.get(PARENT):
            privileges.die_with_parent(int(parent))
        asyncio.run(_live(settings, body))
    except BaremetalError as exc:
        say(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        return EXIT_OK
    except Exception:
        logging.getLogger("baremetal").exception("the %s process failed", name)
        return EXIT_FAILED
    return EXIT_OK


def set_up_log(name: str, level: str) -> None:
    """One line an event on stderr; the journal adds the time when it is there."""
    when = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format=f"{when}{name} %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("asyncio", "uvicorn", "aiohttp", "httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_tells)


def _tells(record: logging.LogRecord) -> bool:
    """Not aiohttp's tracebacks for what was no HTTP and for clients that went away.

    Anybody on the wire could fill the disk with them, and machines are switched off in the middle of a download.
    """
    kind = record.exc_info[0] if record.exc_info else None
    if kind is None:
        return True
    return not issubclass(kind, ConnectionError) and all(
        base.__name__ != "HttpProcessingError" for base in kind.__mro__
    )


async def _live(settings: Settings, body: Body) -> None:
    life = Life()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, life.stop.set)
    loop.add_signal_handler(signal.SIGINT, life.stop.set)
    await body(settings, life)
