"""The demo's last word: one JSON document, or a table of stages for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONFIGURED = ("applied", "unchanged")


def node_result(node: Mapping[str, Any], timeline: Mapping[str, Any], page: str) -> dict[str, Any]:
    """One node's line of the final document."""
    config = node.get("config") or {}
    return {
        "name": node["name"],
        "firmware": node.get("firmware"),
        "state": node.get("state"),
        "configured": config.get("outcome") in CONFIGURED,
        "page": page,
        **spans(timeline.get("stages", [])),
        "stages": [
            {"name": stage["stage"], "seconds": round(float(stage.get("seconds") or 0.0), 2)}
            for stage in timeline.get("stages", [])
        ],
    }


def spans(stages: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Seconds from the first word about the node, and from the deploy order, to its first configuration."""
    done = next((s.get("end") or s["start"] for s in stages if str(s["stage"]).startswith("configured")), None)
    ordered = next((s["start"] for s in stages if s["stage"] == "asked deploy"), None)
    begun = min((s["start"] for s in stages), default=None)
    return {
        "enroll_to_configured_s": _between(begun, done),
        "deploy_to_configured_s": _between(ordered, done),
    }


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 1)


def stage_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seconds of each stage, a column a node, in the order of the first node that has it."""
    names: list[str] = []
    for result in results:
        names += [s["name"] for s in result["stages"] if s["name"] not in names]
    width = max([len("stage"), *(len(n) for n in names)])
    lines = ["  " + "stage".ljust(width) + "".join(f"{r['name']:>14}" for r in results)]
    for name in names:
        cells = []
        for result in results:
            took = [s["seconds"] for s in result["stages"] if s["name"] == name]
            cells.append(f"{sum(took):12.1f} s" if took else " " * 13 + "-")
        lines.append("  " + name.ljust(width) + "".join(cells))
    return lines
