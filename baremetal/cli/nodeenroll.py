"""`node enroll` and `node import`: machines become known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render, waiting
from baremetal.cli.client import Client
from baremetal.cli.words import DryRun, Json, Timeout, Wait, flat_pairs, one_of, password
from baremetal.errors import EXIT_FAILED, Unreachable

PASSWORD_ENV = "BAREMETAL_BMC_PASSWORD"  # noqa: S105 (the name of a variable)


def enroll(
    name: Annotated[str, typer.Argument(help="How the node shall be called.")],
    bmc: Annotated[str, typer.Option("--bmc", help="ipmi://user@10.0.0.17, redfish://…, or fake://")] = "",
    user: Annotated[str, typer.Option("--user", "-u", help="BMC user, where the URL has none.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File with the BMC password.")] = None,
    mac: Annotated[
        list[str] | None, typer.Option("--mac", "-m", help="MAC address of a NIC that boots; may repeat.")
    ] = None,
    resource_class: Annotated[str, typer.Option("--class", "--resource-class", help="Resource class.")] = "",
    trait: Annotated[list[str] | None, typer.Option("--trait", help="May repeat.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value; may repeat.")] = None,
    root_device: Annotated[list[str] | None, typer.Option("--root-device", help="Hint like serial=S3X.")] = None,
    firmware: Annotated[
        str,
        typer.Option(help="bios or uefi; found out at inspection otherwise.", autocompletion=one_of("bios", "uefi")),
    ] = "",
    manage: Annotated[bool, typer.Option("--manage/--no-manage", help="Ask the BMC who it is at once.")] = True,
    wait: Wait = False,
    timeout: Timeout = 120.0,
    as_json: Json = False,
) -> None:
    """Enroll one machine by its BMC address.

    The password comes from --password-file, from $BAREMETAL_BMC_PASSWORD, or is asked for on a terminal; it is
    stored sealed and never shown.

    \b
    Examples:
      baremetal node enroll r1-u07 --bmc ipmi://admin@10.1.0.17 --mac 3c:ec:ef:00:11:22 --wait
      baremetal node enroll r1-u08 --bmc redfish://root@10.1.0.18 --class compute --label rack=r1
    """
    body: dict[str, Any] = {"name": name, "bmc_url": bmc, "manage": manage}
    secret = password(password_file, PASSWORD_ENV, ask=f"password of {bmc}: " if bmc and "fake" not in bmc else "")
    more = {
        "username": user,
        "password": secret,
        "macs": [m.lower() for m in mac or ()],
        "resource_class": resource_class,
        "traits": trait,
        "labels": {k: str(v) for k, v in flat_pairs(label, "--label").items()},
        "root_device": flat_pairs(root_device, "--root-device"),
        "firmware": firmware,
    }
    client = Client.default()
    doc = client.post("/api/nodes", body | {k: v for k, v in more.items() if v})
    if wait:
        doc = waiting.follow(client, doc["id"], timeout)
    if as_json:
        render.json_out(doc)
        return
    render.note(f"{doc['name']}: enrolled" + ("" if doc["state"] == "enroll" else f", {doc['state']}"))
    if not bmc:
        give = f"baremetal node set {name} --bmc ipmi://USER@ADDRESS --password-file FILE"
        render.note(f"it has no BMC address: {give}; for a machine without BMC: --bmc manual://{name}")
    elif doc["state"] == "enroll" and manage:
        render.note(f"its BMC is asked who it is: baremetal node explain {name}")


def import_(
    file: Annotated[Path, typer.Argument(help="instackenv.json, nodes.yaml, CSV or our TOML.")],
    manage: Annotated[bool, typer.Option("--manage/--no-manage", help="Ask each BMC who it is at once.")] = True,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out entries that cannot be read; without it, one stops all.")
    ] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Enroll all machines of a file, or update those we know; each whole or not at all. Safe to repeat.

    \b
    Examples:
      baremetal node import instackenv.json --dry-run
      baremetal node import rack1.csv --wait
    """
    from baremetal.bmc import nodesfile

    entries, problems = nodesfile.load_some(file)
    if problems and not keep_going:
        raise nodesfile.NodesFileError(str(file), problems)
    for problem in problems:
        render.note(f"left out: {problem}")
    bodies = [body_of(entry, manage=manage) for entry in entries]
    if dry_run:
        _dry_run(bodies, as_json)
        return
    client = Client.default()
    results = client.post("/api/nodes/import", {"nodes": bodies})["results"]
    for result in results:
        render.note(f"{result.get('name') or 'entry ' + str(result['index'])}: {_how(result)}")
        if fix := (result.get("error") or {}).get("fix"):
            render.note(f"  fix: {fix}")
    well = [r for r in results if r["ok"]]
    asked = [r for r in well if r.get("verdict") != "unchanged"]
    failed = 0
    if wait and asked:
        nodes = waiting.follow_all(client, [r["node"]["id"] for r in asked], timeout)
        results = [r | {"node": next((n for n in nodes if n["name"] == r["name"]), r["node"])} for r in results]
        failed = sum(waiting.failure_of(n) is not None for n in nodes)
    counts = Counter(r.get("verdict", "enroll") if r["ok"] else "refused" for r in results)
    render.note(", ".join(f"{WORDS.get(verdict, verdict)} {count}" for verdict, count in counts.most_common()))
    if failed:
        render.note(f"{failed} did not verify: see baremetal node list --state enroll; import again to ask them again")
    if as_json:
        render.json_out({"results": results})
    if failed or problems or len(well) < len(results):
        raise typer.Exit(EXIT_FAILED)


WORDS = {"enroll": "enrolled", "update": "updated", "ask-again": "asked again"}


def _how(result: dict[str, Any]) -> str:
    """What became of one entry."""
    if not result["ok"]:
        return f"refused: {(result.get('error') or {}).get('brief', '')}"
    verdict = result.get("verdict", "enroll")
    more = f": {', '.join(result['changes'])}" if result.get("changes") else ""
    return f"{WORDS.get(verdict, verdict)}{more}"


def _dry_run(bodies: list[dict[str, Any]], as_json: bool) -> None:
    """The table of what would be done; without a server, of what the file says."""
    try:
        results = Client.default().post("/api/nodes/import", {"nodes": bodies, "dry_run": True})["results"]
    except Unreachable as exc:
        render.note(f"{exc.brief}: not compared with the nodes it knows")
        results = [{"ok": True, "verdict": "enroll"} for _ in bodies]
    shown = [body | {"password": "******"} if body.get("password") else body for body in bodies]
    if as_json:
        docs = [body | {"would": _would(result)} for body, result in zip(shown, results, strict=True)]
        render.json_out({"nodes": docs})
    else:
        rows = [
            {
                "would": _would(result),
                "name": body["name"],
                "bmc": body["bmc_url"],
                "password": "yes" if body.get("password") else "none",
                "macs": " ".join(body.get("macs") or []),
                "class": body.get("resource_class", ""),
            }
            for body, result in zip(bodies, results, strict=True)
        ]
        render.table(rows, ["would", "name", "bmc", "password", "macs", "class"], empty="no machines in the file")
    if not all(result["ok"] for result in results):
        raise typer.Exit(EXIT_FAILED)


def _would(result: dict[str, Any]) -> str:
    if not result["ok"]:
        return f"refuse: {(result.get('error') or {}).get('brief', '')}"
    changes = result.get("changes") or []
    return str(result["verdict"]) + (f" {', '.join(changes)}" if changes else "")


def body_of(entry: Any, *, manage: bool) -> dict[str, Any]:
    """An Enrollment as the body of POST /api/nodes."""
    properties = dict(entry.properties)
    if entry.capabilities:
        properties["capabilities"] = entry.capabilities
    if entry.driver_info:
        properties["driver_info"] = entry.driver_info
    if entry.extra:
        properties["file"] = entry.extra
    body = {
        "name": entry.name or f"node-{entry.index + 1}",
        "bmc_url": entry.bmc_url,
        "username": entry.username,
        "password": entry.password.reveal() if entry.password else None,
        "macs": list(entry.macs),
        "arch": entry.arch,
        "resource_class": entry.resource_class,
        "labels": entry.labels,
        "properties": properties,
        "root_device": entry.root_device,
        "manage": manage,
        "uuid": entry.uuid,
        "ports": [port for port in entry.ports if set(port) - {"address"}],
    }
    boot_mode = entry.capabilities.get("boot_mode")
    if boot_mode in ("bios", "uefi"):
        body["firmware"] = boot_mode
    return {k: v for k, v in body.items() if v not in (None, "", {}, [])}


def register(app: typer.Typer) -> None:
    """Add the commands to `node`."""
    app.command()(enroll)
    app.command("import")(import_)
