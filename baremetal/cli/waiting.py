"""--wait: follow nodes until their verb is done or has failed; what happens is told on stderr."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.errors import BaremetalError, TimedOut, Unreachable

HELD_S = 30.0  # the server holds one request so long
TELL_S = 5.0  # with many nodes, a line that sums up is told so often
AWAY_S = 60.0  # a server that restarts is back in seconds; the nodes go on where they were


class NodeFailed(BaremetalError):
    """The verb ended with a fault."""

    code = "node-failed"


def finished(node: dict[str, Any]) -> bool:
    """Nothing is under way any more."""
    return node["phase"] in ("failed", "held") or (node["phase"] == "stable" and not node.get("wanted"))


def failure_of(node: dict[str, Any]) -> NodeFailed | None:
    """The node's fault as an error; None when it did well."""
    fault = node.get("fault")
    if node["phase"] != "failed" and not fault:
        return None
    fault = fault or {"brief": f"{node['name']} is {node['ironic_state']}"}
    fix = fault.get("fix") or f"baremetal node explain {node['name']}"
    return NodeFailed(fault["brief"], detail=fault.get("detail") or "", fix=fix)


def patient_get(client: Client, path: str, **query: Any) -> Any:
    """GET, also over a restart of the server: a server away is told once and asked again for AWAY_S."""
    away_since = 0.0
    while True:
        try:
            return client.get(path, **query)
        except Unreachable as exc:
            now = time.monotonic()
            if not away_since:
                away_since = now
                render.note(f"{exc.brief}; asking again for {AWAY_S:.0f} s")
            if now - away_since > AWAY_S:
                raise
            time.sleep(0.5)


def follow(client: Client, ref: str, timeout_s: float, *, quiet: bool = False) -> dict[str, Any]:
    """Until the node's verb is finished; raises TimedOut, or NodeFailed with the fault."""
    started, said, fence = time.monotonic(), "", None
    while True:
        left = timeout_s - (time.monotonic() - started)
        query: dict[str, Any] = {"wait": min(HELD_S, max(0.1, left)), "fence": fence} if fence is not None else {}
        node: dict[str, Any] = patient_get(client, node_path(ref), **query)
        fence = node["fence"]
        line = doing(node)
        if line != said and not quiet:
            render.note(f"{time.monotonic() - started:6.1f} s  {node['name']}: {line}")
            said = line
        if finished(node):
            error = failure_of(node)
            if error is not None:
                raise error
            return node
        if left <= 0:
            raise TimedOut(
                f"{node['name']} is still {node['state']} after {timeout_s:.0f} s: {line}",
                fix=f"it goes on by itself: baremetal node explain {node['name']}",
            )


def follow_all(client: Client, refs: list[str], timeout_s: float) -> list[dict[str, Any]]:
    """Until every node is finished, well or not; returns the nodes as they are then."""
    started = told_at = time.monotonic()
    waiting, done, told = list(refs), {}, ""
    while waiting:
        lines = []
        for ref in list(waiting):
            node = patient_get(client, node_path(ref))
            lines.append(doing(node))
            if finished(node):
                waiting.remove(ref)
                done[ref] = node
                error = failure_of(node)
                how = f"failed: {error.brief}" if error else node["state"]
                render.note(f"{time.monotonic() - started:6.1f} s  {node['name']}: {how}")
        summary = _summary(lines, len(done), len(refs))
        if waiting and summary != told and time.monotonic() - told_at > TELL_S:
            told, told_at = summary, time.monotonic()
            render.note(f"{told_at - started:6.1f} s  {summary}")
        if waiting and time.monotonic() - started > timeout_s:
            raise TimedOut(
                f"{len(waiting)} of {len(refs)} nodes are not done after {timeout_s:.0f} s",
                detail=" ".join(waiting[:20]),
                fix="they go on by themselves: baremetal watch",
            )
        if waiting:
            time.sleep(1.0)
    return [done[ref] for ref in refs]


def _summary(lines: list[str], done: int, of: int) -> str:
    """How many are done, and what most of the others do."""
    counts = Counter(line.rpartition(" · ")[0] or line for line in lines)
    most = "; ".join(f"{count} {line}" for line, count in counts.most_common(3))
    return f"{done} of {of} done; {most}"


def doing(node: dict[str, Any]) -> str:
    """One line: where it is and why."""
    parts = [node["state"]]
    if node.get("step"):
        parts.append(str(node["step"]))
    progress = node.get("progress")
    if progress and progress.get("total"):
        parts.append(f"{progress.get('stage', '')} {100 * progress['done'] // progress['total'] // 10 * 10} %".strip())
    elif node.get("wait"):
        parts.append(str(node["wait"]["because"]))
    return " · ".join(parts)
