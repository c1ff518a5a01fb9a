"""Is the site ready for an upgrade, one server after the other? Pure: servers and figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baremetal.store.servers import Server

SILENT_S = 3.0
CLOCK_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """One check: `ok`, what was seen, and what to do when it is not ok."""

    name: str
    ok: bool
    seen: str
    fix: str = ""


def ready_to_upgrade(lives: Sequence[Server], now: float, schema: str, faults: int, crashes: int) -> list[Verdict]:
    """`lives`: servers whose life is not over; `schema`: what the database says it is."""
    silent = [s.name for s in lives if now - s.beat_at > SILENT_S]
    versions = sorted({s.version for s in lives})
    wrong = [f"{s.name} {s.clock_off_s:+.0f} s" for s in lives if abs(s.clock_off_s) > CLOCK_S]
    behind = [s.name for s in lives if s.schema != schema]
    return [
        Verdict(
            "servers", len(lives) > 1, f"{len(lives)} alive", "with one server, deploys pause while it is upgraded"
        ),
        Verdict("heard", not silent, ", ".join(silent) or "all of them now", "look at their logs first"),
        Verdict("versions", len(versions) <= 1, ", ".join(versions), "finish the upgrade under way first"),
        Verdict("schema", not behind, ", ".join(behind) or schema, "these run an older program: upgrade them first"),
        Verdict(
            "clocks", not wrong, ", ".join(wrong) or "right", "chrony; deadlines follow the database's clock meanwhile"
        ),
        Verdict(
            "faults", faults == 0, f"{faults} nodes", "baremetal node list --where fault; they may wait, but know them"
        ),
        Verdict(
            "crashes",
            crashes == 0,
            f"{crashes} here since the start",
            "a bug: see the server's log, and tell the makers",
        ),
    ]
