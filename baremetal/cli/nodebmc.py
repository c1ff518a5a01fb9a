"""A node's BMC by the node's name: sensors, events as they come, its log, accounts, audit, light, password."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.cli.listing import Listed, listing
from baremetal.cli.nodelook import event_line
from baremetal.cli.words import Json, NodeName, Yes, confirm
from baremetal.errors import EXIT_FAILED, BaremetalError, Unreachable, UsageError

LIMITS = ("lower_critical", "lower_warning", "upper_warning", "upper_critical")


def sensors(
    node: NodeName,
    bad: Annotated[bool, typer.Option("--bad", help="Only those that are not well.")] = False,
    cached: Annotated[bool, typer.Option("--cached", help="As last read; asks the BMC nothing.")] = False,
    watch: Annotated[float, typer.Option("--watch", help="Read again every so many seconds.")] = 0.0,
    as_json: Json = False,
) -> None:
    """All sensors with unit, state and limits, read now. Ends with 1 when one is critical.

    \b
    Examples:
      baremetal node sensors r1-u07
      baremetal node sensors r1-u07 --bad --watch 10
    """
    client = Client.default()
    while True:
        doc = client.get(node_path(node, "sensors"), cached=1 if cached else None)
        found = [one for one in doc["sensors"] if not bad or one["state"] in ("warning", "critical")]
        if as_json:
            render.json_out(doc | {"sensors": found})
        else:
            render.table([_row(one) for one in found], COLUMNS, empty="all sensors are well" if bad else "no sensors")
            if error := doc.get("error"):
                render.note(f"{error['brief']}; shown as read {render.ago(doc['read_at'])} ago")
        if watch <= 0:
            break
        time.sleep(max(1.0, watch))
    if any(one["state"] == "critical" for one in doc["sensors"]):
        raise typer.Exit(EXIT_FAILED)


COLUMNS = ["sensor", "value", "unit", "state", "limits", "says"]


def _row(one: dict[str, Any]) -> dict[str, Any]:
    limits = one.get("thresholds") or {}
    value = one["value"]
    return {
        "sensor": one["name"],
        "value": "" if value is None else f"{value:g}",
        "unit": one["unit"] if value is not None else "",
        "state": one["state"],
        "limits": " ".join(f"{limits[name]:g}" if name in limits else "-" for name in LIMITS) if limits else "",
        "says": ", ".join(one.get("discrete") or ()) or one["kind"],
    }


def events(
    node: NodeName,
    watch: Annotated[bool, typer.Option("--watch", "-f", help="And go on with what comes.")] = False,
    bmc: Annotated[bool, typer.Option("--bmc", help="The BMC's own event log (SEL) instead, read now.")] = False,
    alarms: Annotated[bool, typer.Option("--alarms", help="Only alarms of sensors and the BMC's log.")] = False,
    since: Annotated[str, typer.Option(help="With --bmc: only what came after this record id.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="With --bmc: empty the log after it was shown.")] = False,
    every: Annotated[float, typer.Option(help="With --bmc --watch: seconds between two looks.")] = 10.0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Everything that was seen of the node; alarms of its sensors and its BMC's log are among it.

    \b
    Examples:
      baremetal node events r1-u07 --watch
      baremetal node events r1-u07 --bmc --watch
    """
    client = Client.default()
    if bmc:
        _bmc_log(client, node, since, watch, every, clear, yes, as_json)
        return
    if since or clear:
        raise UsageError("--since and --clear are of the BMC's own log", fix="add --bmc")
    found = client.get(node_path(node, "events"), limit=limit)["events"]
    last = str(found[-1]["id"]) if found else ""
    found = [event for event in found if not alarms or _is_alarm(event)]
    if as_json and not watch:
        render.json_out({"events": found})
        return
    for event in found:
        _print(event, as_json)
    if watch:
        try:
            for event in _coming(client, node, last):
                if not alarms or _is_alarm(event):
                    _print(event, as_json)
        except KeyboardInterrupt:
            return


def _coming(client: Client, node: str, after: str) -> Iterator[dict[str, Any]]:
    """Events as they are stored, from the one behind `after` on; the stream is taken up again where it broke."""
    after = after or client.get("/api/events", node=node, limit=1, after="")["last"]
    while True:
        try:
            for kind, doc in client.stream("/api/events/stream", node=node, after=after):
                if kind != "nodes":
                    after = doc.get("id", after)
                    yield doc
        except Unreachable:
            time.sleep(1.0)


def _print(event: dict[str, Any], as_json: bool) -> None:
    import json

    print(json.dumps(event, ensure_ascii=False) if as_json else event_line(event), flush=True)


def _is_alarm(event: dict[str, Any]) -> bool:
    return event.get("outcome") == "alarm"


def _bmc_log(
    client: Client, node: str, since: str, watch: bool, every: float, clear: bool, yes: bool, as_json: bool
) -> None:
    """The SEL, and what comes to it while we look."""
    if clear:
        confirm(f"Empty the event log of {node}'s BMC?", yes=yes)
    doc = client.get(node_path(node, "bmc", "log"), since=since)
    records = doc["records"]
    if as_json and not watch:
        render.json_out(doc)
    else:
        _records(records, as_json)
        if not records and not as_json:
            render.note("the BMC's log is empty" + (f" after {since}" if since else ""))
    if clear:
        client.delete(node_path(node, "bmc", "log"))
        render.note(f"{node}: event log emptied, {len(records)} records were in it")
    last = records[-1]["id"] if records else since
    while watch:
        try:
            time.sleep(max(1.0, every))
            new = client.get(node_path(node, "bmc", "log"), since=last)["records"]
        except KeyboardInterrupt:
            return
        except BaremetalError as exc:
            render.note(f"{exc.brief}; looking again")
            continue
        _records(new, as_json)
        last = new[-1]["id"] if new else last


def _records(records: list[dict[str, Any]], as_json: bool) -> None:
    import json

    for one in records:
        if as_json:
            print(json.dumps(one, ensure_ascii=False), flush=True)
            continue
        went = "" if one["asserted"] else " (over)"
        at = render.clock(one["time"]) or "no clock"
        print(
            f"{one['id']:>5}  {at:<19}  {one['severity']:<8}  {one['sensor']} {one['kind']}: {one['event']}{went}",
            flush=True,
        )


@listing
def users(listed: Listed, node: NodeName) -> None:
    """The accounts of the node's BMC."""
    doc = Client.default().get(node_path(node, "bmc", "users"))
    listed.show(doc, "users", ["slot", "name", "privilege", "enabled"], empty="no accounts")


def audit(
    node: NodeName,
    factory_file: Annotated[
        Path | None,
        typer.Option("--factory-file", help="Lines `user password` to try; nothing is tried without it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What is dangerous about the node's BMC, found out now, worst first. Ends with 1 when something is critical."""
    from baremetal.cli.bmcaccounts import factory_pairs

    pairs = [list(pair) for pair in factory_pairs(factory_file)] if factory_file else []
    doc = Client.default().post(node_path(node, "bmc", "audit"), {"factory": pairs} if pairs else {})
    if as_json:
        render.json_out(doc)
    else:
        render.table(doc["findings"], ["severity", "check", "what", "fix"], empty="nothing was found")
    if doc["worst"] == "critical":
        raise typer.Exit(EXIT_FAILED)


def locate(
    node: NodeName,
    off: Annotated[bool, typer.Option("--off", help="Switch the light off.")] = False,
    seconds: Annotated[int, typer.Option("--seconds", help="How long, up to 255; 0: until switched off.")] = 60,
    as_json: Json = False,
) -> None:
    """The identify light of the machine."""
    doc = Client.default().put(node_path(node, "bmc", "locate"), {"on": not off, "seconds": seconds})
    render.json_out(doc) if as_json else render.note(f"{doc['node']}: light {doc['light']}")


def password(
    node: NodeName,
    account: Annotated[str, typer.Option("--account", help="Another account than the one we log in with.")] = "",
    new_password_file: Annotated[Path | None, typer.Option(help="File with the new password.")] = None,
    new_password_env: Annotated[str | None, typer.Option(help="Variable with the new password.")] = None,
    random: Annotated[bool, typer.Option("--random", help="16 characters nobody sees: sealed in the store.")] = False,
    as_json: Json = False,
) -> None:
    """Change the BMC's password on the BMC, prove it by logging in, and keep it; a crash in between loses nothing."""
    from baremetal.bmc.passwords import SHORT, random_password
    from baremetal.cli.bmccall import new_password

    if random and (account or new_password_file or new_password_env):
        raise UsageError("--random is for our own account, without a password of yours")
    new = random_password(SHORT) if random else new_password(new_password_file, new_password_env)
    doc = Client.default().put(node_path(node, "bmc", "password"), {"account": account, "password": new})
    told = f"{doc['node']}: password of {doc['user']} changed; the BMC took a login with it"
    render.json_out(doc) if as_json else render.note(told)


def register(app: typer.Typer) -> None:
    """Add the commands to `node`."""
    for command in (sensors, events, users, audit, locate, password):
        app.command(command.__name__)(command)
