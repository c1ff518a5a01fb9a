"""`baremetal agent run`, `status` and `rollback`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any, Dict, List, Optional

from baremetal.agents.apply.cli import STATE, templates_root
from baremetal.agents.apply.journal import read_json
from baremetal.agents.collect.options import CACHE
from baremetal.agents.refresh.phases import base_directory
from baremetal.errors import BaremetalError

DRIVE_WAIT_S = 10.0


def run(argv: List[str], prog: str) -> int:
    """The resident agent; ends only on a signal or without an identity."""
    parser = argparse.ArgumentParser(prog=prog, description="Hold a request at the server; converge and report.")
    add = parser.add_argument
    add("--state", default=STATE, metavar="DIR", help="(default: %(default)s)")
    add("--templates", default=templates_root(), metavar="DIR", help="(default: %(default)s)")
    add("--output", default="/", metavar="DIR", help="root of what is written (default: %(default)s)")
    add("--cachedir", default=CACHE, metavar="DIR", help="(default: %(default)s)")
    add("--phases", default=base_directory(), metavar="DIR", help="(default: %(default)s)")
    add("--script-timeout", type=float, default=900.0, metavar="S", help="of one script (default: %(default)s)")
    add("--timeout", type=float, default=1800.0, metavar="S", help="of all scripts of a run (default: %(default)s)")
    add("--config-drive", metavar="FILE", help="look for the config drive here only")
    add(
        "--drive-wait",
        type=float,
        default=DRIVE_WAIT_S,
        metavar="S",
        help="for the disk to appear (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        agent = _agent(options)
        if agent is None:
            _say("no config drive of ours and no earlier state: this machine is not ours to configure")
            return 0
        agent.run()
    except BaremetalError as exc:
        print(f"{prog}: {exc}", file=sys.stderr)
        return 1
    return 0


def status(argv: List[str], prog: str) -> int:
    """What is applied. Exit: 0 configured, 1 failed, 2 not yet, 3 files of ours were changed."""
    from baremetal.agents.resident.status import FILE, exit_status

    parser = argparse.ArgumentParser(prog=prog, description=status.__doc__)
    parser.add_argument("--state", default=STATE, metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the whole status document")
    parser.add_argument("--wait", type=float, metavar="S", help="wait so long for the first outcome")
    options = parser.parse_args(argv)
    path = os.path.join(options.state, FILE)
    deadline = time.monotonic() + (options.wait or 0)
    document = read_json(path)
    while exit_status(document) == 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        document = read_json(path)
    found: Dict[str, Any] = document if isinstance(document, dict) else {}
    found["drift"] = _drift(options.state)
    print(json.dumps(found, indent=1) if options.json else _readable(found))
    return exit_status(found)


def rollback(argv: List[str], prog: str) -> int:
    """Put the files of the last transactions back; the same generation is then left alone until a newer one comes."""
    parser = argparse.ArgumentParser(prog=prog, description=rollback.__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1, help="how many transactions (default: %(default)s)")
    parser.add_argument("--state", default=STATE, metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show what can be undone")
    options = parser.parse_args(argv)
    try:
        return _rollback(options)
    except BaremetalError as exc:
        print(f"{prog}: {exc}", file=sys.stderr)
        return 1


def _agent(options: argparse.Namespace) -> Any:
    """The agent, None when nothing says who we are."""
    from baremetal.agents.resident.converge import Places
    from baremetal.agents.resident.identity import NoIdentity
    from baremetal.agents.resident.loop import Agent

    places = Places(
        options.state,
        options.templates,
        options.output,
        options.cachedir,
        options.phases,
        options.script_timeout,
        options.timeout,
    )
    candidates = [options.config_drive] if options.config_drive else None
    deadline = time.monotonic() + options.drive_wait
    while True:
        try:
            return Agent(places, say=_say, candidates=candidates, root=options.output)
        except NoIdentity:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.5)  # early in boot the disk may not be there yet


def _say(text: str) -> None:
    print(f"baremetal-agent: {text}", file=sys.stderr, flush=True)


def _drift(state: str) -> List[Dict[str, str]]:
    from baremetal.agents.apply.manifest import Manifest

    return [{"path": d.path, "what": d.what} for d in Manifest(os.path.join(state, "manifest.json")).drift()]


def _readable(document: Dict[str, Any]) -> str:
    report: Optional[Dict[str, Any]] = document.get("report")
    lines = [f"agent:      {document.get('phase', 'never ran')} (server {document.get('server', 'unknown')})"]
    if document.get("trouble"):
        lines.append(f"trouble:    {document['trouble']}")
    if report is None:
        lines.append("configured: not yet")
    else:
        lines.append(
            f"configured: generation {report['metadata_generation']} {report['outcome']}, {report['seconds']} s"
        )
        lines += [f"  {f['change']:<8} {f['path']}" for f in report["files"] if f["change"] != "same"]
        lines += [f"  {s['phase']}.d/{s['name']} exit {s['exit']}, {s['seconds']} s" for s in report["scripts"]]
        if report.get("fault"):
            fault = report["fault"]
            lines += [f"fault:      {fault['brief']}", *(f"  {t}" for t in fault["detail"].splitlines())]
            lines.append(f"  fix: {fault['fix']}")
    lines += [f"drift:      {d['path']}: {d['what']}" for d in document.get("drift", [])]
    return "\n".join(lines)


def _rollback(options: argparse.Namespace) -> int:
    from baremetal.agents.apply.journal import DONE, Journal
    from baremetal.agents.apply.lock import held
    from baremetal.agents.resident.identity import State

    journal = Journal(options.state)
    records = [r for r in (journal.get(n) for n in reversed(journal.numbers())) if r is not None and r.phase == DONE]
    if options.list:
        for record in records:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.document["time"]))
            print(f"{record.number}: {when}, {', '.join(f['path'] for f in record.document['files'])}")
        return 0
    if not 1 <= options.count <= len(records):
        raise BaremetalError(f"there are {len(records)} transactions to undo, not {options.count}", fix="--list")
    state = State(options.state)
    with held(options.state):
        generation = state.read("generation.json")
        if isinstance(generation, dict):
            state.write("hold.json", {"generation": generation.get("seen")})
        for record in records[: options.count]:
            for path in record.undo():
                print(path)
            journal.drop(record.number)
    return 0
