"""A verb asked of one node or of many: the options that all such verbs share, the plan, the question, the verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from baremetal.cli import render, waiting
from baremetal.cli.client import Client, node_path
from baremetal.cli.joined import Option, joined
from baremetal.cli.words import DryRun, Json, NodeNames, Timeout, Wait, Where, Yes, confirm
from baremetal.errors import EXIT_FAILED, UsageError

# Fleets above this are shown and asked for before anything is done.
FLEET = 5
WHICH: tuple[Option, ...] = (("nodes", NodeNames, None), ("where", Where, ""))
HOW: tuple[Option, ...] = (
    ("wait", Wait, False),
    ("timeout", Timeout, 3600.0),
    ("dry_run", DryRun, False),
    ("yes", Yes, False),
    ("as_json", Json, False),
)
COLUMNS = ("node", "verdict", "because", "fix", "consequences")
LONG_S = 86400.0  # the longest wait for work that reads or writes whole disks


def asking(function: Callable[..., None], timeout: float = 3600.0) -> Callable[..., None]:
    """`function(asked, its own options…)` as a command that takes WHICH and HOW beside them."""
    how = [(name, kind, timeout if name == "timeout" else default) for name, kind, default in HOW]
    return joined(function, Asked, before=WHICH, after=how)


@dataclass(frozen=True)
class Asked:
    """Which nodes, and how to ask them; `timeout` in seconds."""

    nodes: list[str] | None
    where: str
    wait: bool
    timeout: float
    dry_run: bool
    yes: bool
    as_json: bool

    def ask(self, verb: str, args: dict[str, Any]) -> None:
        """Ask a verb of one node or of many; show verdicts; wait if told to."""
        names = list(self.nodes or ())
        _no_seconds(names)
        client = Client.default()
        if not names and not self.where:
            said = f"power {verb.removeprefix('power-')}" if verb.startswith("power-") else verb
            fix = f"baremetal node {said} r1-u07, a range, or --where 'state=…'"
            raise UsageError(f"{said}: which nodes?", fix=fix)
        _one_way(names, self.where)
        if len(names) == 1 and "[" not in names[0] and not self.where and not self.dry_run:
            self._one(client, verb, names[0], args)
            return
        body = {"verb": verb, "nodes": names or None, "where": self.where or None, "args": args}
        plan = client.post("/api/bulk", body | {"dry_run": True})
        if self.dry_run:
            self._verdicts(plan)
            return
        count = sum(r["verdict"] != "refused" for r in plan["results"])
        if count > FLEET:
            confirm(f"{verb} {count} nodes?", yes=self.yes)
        self._finish(client, client.post("/api/bulk", body | {"dry_run": False}))

    def _one(self, client: Client, verb: str, name: str, args: dict[str, Any]) -> None:
        doc = client.put(node_path(name, "verbs", verb), args)
        if self.wait:
            doc = waiting.follow(client, doc["id"], self.timeout)
        render.json_out(doc) if self.as_json else render.note(f"{doc['name']}: {_accepted(doc, verb, self.wait)}")

    def _finish(self, client: Client, done: dict[str, Any]) -> None:
        failed = int(done["refused"])
        if self.wait:
            taken = [r["node"] for r in done["results"] if r["verdict"] == "accepted"]
            nodes = waiting.follow_all(client, taken, self.timeout)
            failed += sum(waiting.failure_of(n) is not None for n in nodes)
            done["nodes"] = nodes
            done["results"] = [_after(result, nodes) for result in done["results"]]
        self._verdicts(done)
        if failed:
            raise typer.Exit(EXIT_FAILED)

    def _verdicts(self, doc: dict[str, Any]) -> None:
        if self.as_json:
            render.json_out(doc)
            return
        rows = [row | {"fix": (row.get("error") or {}).get("fix", "")} for row in doc["results"]]
        columns = [c for c in COLUMNS if c in ("node", "verdict") or any(row.get(c) for row in rows)]
        render.table(rows, columns, empty="no node matches")


def _after(result: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The verdict once the verb has ended: the state that was reached, or failed and why."""
    node = next((n for n in nodes if n["name"] == result["node"]), None)
    if node is None:
        return result
    error = waiting.failure_of(node)
    if error is None:
        return result | {"verdict": node["state"], "consequences": []}
    return result | {"verdict": "failed", "because": error.brief, "error": {"fix": error.fix}, "consequences": []}


def _one_way(names: list[str], where: str) -> None:
    if names and where:
        raise UsageError("names and --where: which of them?", fix=f'names alone, or --where "({where}) and name=…"')


def _no_seconds(names: list[str]) -> None:
    """`--wait 30` as Ironic has it would ask a node called 30."""
    words = sys.argv[1:]
    after = {words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--wait", "-w")}
    if found := [name for name in names if name.isdigit() and name in after]:
        raise UsageError(f"--wait takes no seconds, and {found[0]} is no name here", fix=f"--wait --timeout {found[0]}")


def _accepted(doc: dict[str, Any], verb: str, waited: bool) -> str:
    if waited:
        return f"{verb} done, {doc['state']}"
    return f"{verb} accepted; follow it with: baremetal node timeline --follow {doc['name']}"


def expand(nodes: list[str] | None, where: str) -> list[str]:
    """Names with ranges written out, as the server sees them."""
    if not nodes and not where:
        raise UsageError("which nodes?", fix="name one, or a range like r1-u[01-40]")
    _one_way(list(nodes or ()), where)
    if nodes and not where and not any("[" in name for name in nodes):
        return list(nodes)
    body: dict[str, Any] = {"verb": "power-on", "nodes": nodes, "where": where or None, "args": {}, "dry_run": True}
    return [r["node"] for r in Client.default().post("/api/bulk", body)["results"]]
