"""`baremetal boot …`: what machines ask and are told, live or in thought; iPXE's error numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.words import Json
from baremetal.errors import NotFound, UsageError

if TYPE_CHECKING:
    from baremetal.config import Settings
    from baremetal.model.boot import BootRecord
    from baremetal.model.network import Network

app = typer.Typer(no_args_is_help=True, help="What machines ask at boot, what they are told, and why.")
BOOT_KINDS = ("dhcp", "loader", "script", "kernel", "hello", "security", "server")


@app.command()
def explain(
    mac: Annotated[str, typer.Option("--mac", "-m", help="The NIC that asks.")],
    firmware: Annotated[
        str, typer.Option("--firmware", "-f", help="bios, uefi-x64, uefi-arm64, uefi-ia32 …")
    ] = "uefi-x64",
    arch: Annotated[
        int | None, typer.Option("--arch", help="Instead of --firmware: the number of DHCP option 93, such as 7 or 16.")
    ] = None,
    loader: Annotated[str, typer.Option("--loader", "-l", help="Who asks: firmware, http, ipxe, none.")] = "firmware",
    network: Annotated[str, typer.Option("--network", help="On which network; the first one otherwise.")] = "",
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file.")] = None,
    as_json: Json = False,
) -> None:
    """What this machine would be told now, step by step to its script. Touches nothing."""
    from baremetal.boot.decide import Urls
    from baremetal.config import Settings
    from baremetal.model.boot import Arch, Client, Loader
    from baremetal.serve.bootexplain import explain as explained
    from baremetal.serve.loaders import LoaderTree, read_loaders, read_templates

    settings = Settings.load(config)
    if arch is not None:
        kind, by_http = _by_number(arch)
        firmware, loader = str(kind), "http" if by_http and loader == "firmware" else loader
    client = Client(
        mac=_mac(mac), arch=_one_of(Arch, firmware, "--firmware"), loader=_one_of(Loader, loader, "--loader")
    )
    net = _network(settings, network)
    tree = LoaderTree(read_loaders())
    urls = Urls(http=f"http://{net.server}:{settings.http_port}", loaders=tree.table)
    https = f"https://{net.server}:{settings.https_port}"
    told = explained(client, _record(settings, client.mac), net, urls, tree, read_templates(), https)
    if as_json:
        render.json_out(told.to_json())
        return
    print(f"{client.mac} ({told.node or 'no node'}) on network {told.network}")
    for number, step in enumerate(told.steps, 1):
        print(f"{number}. {step.asks}: {step.answer}")
        print(f"   because {step.because}" + (f" ({step.note})" if step.note else ""))
    if told.script:
        print("\n" + told.script.rstrip())


@app.command()
def watch(
    node: Annotated[str, typer.Option("--node", "-n", help="Only this node.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One document a line.")] = False,
) -> None:
    """Who asks what and what is answered, as it happens. Ctrl-C ends it."""
    import contextlib
    import json

    from baremetal.cli.client import Client

    client = Client.default()
    with contextlib.suppress(KeyboardInterrupt):
        for name, event in client.stream("/api/events/stream", node=node):
            if name in BOOT_KINDS:
                print(json.dumps(event, ensure_ascii=False) if as_json else line(event), flush=True)


@app.command()
def error(
    number: Annotated[str, typer.Argument(help="As on the console: http://ipxe.org/2d0c613b")], as_json: Json = False
) -> None:
    """What an iPXE error number means, and what to look at."""
    from dataclasses import asdict

    from baremetal.boot.ipxe_errors import decode

    found = decode(number)
    if as_json:
        render.json_out(asdict(found))
        return
    print(f"{found.number:08x} {found.name}: {found.brief}")
    print(f"look at: {found.fix}")


def line(event: dict[str, Any]) -> str:
    """One boot event for people: time, machine, what it asked, what it got, why."""
    data = event.get("data") or {}
    who = event.get("node") or data.get("mac") or data.get("source") or "-"
    answer = data.get("decision") or data.get("via") or data.get("detail") or ""
    why = data.get("because") or data.get("why") or ""
    text = f"{render.clock(event.get('time'))}  {who:<18} {event.get('kind', ''):<8} {event.get('stage', '')}"
    return text + (f" -> {answer}" if answer else "") + (f"   ({why})" if why else "")


def _record(settings: Settings, mac: str) -> BootRecord | None:
    """The node of this MAC as the boot plane last knew it."""
    from baremetal.bootplane.copy import SnapshotCopy
    from baremetal.bootplane.state import State
    from baremetal.serve.keyfiles import read_key

    path = settings.boot_dir / "snapshot"
    nothing = f"no node is known: {path} does not exist (has baremetal serve run here?)"
    try:
        if not path.exists():
            render.note(nothing)
            return None
        found = SnapshotCopy(path, read_key(settings, "boot.key")).read()
    except PermissionError as exc:
        raise UsageError(f"may not read {exc.filename}", fix="run as root") from exc
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path} cannot be used: {exc}", fix="start baremetal serve; it writes a new one") from exc
    if found is None:
        render.note(nothing)
        return None
    state = State()
    state.load(*found)
    entry = state.by_mac(mac)
    return entry.record if entry is not None else None


def _network(settings: Settings, name: str) -> Network:
    for network in settings.networks:
        if not name or network.name == name:
            return network
    raise NotFound(
        f"there is no network {name!r}" if name else "no network is configured", fix="baremetal network list"
    )


def _one_of(kind: Any, value: str, flag: str) -> Any:
    try:
        return kind(value.lower())
    except ValueError:
        raise UsageError(f"{flag} {value!r} is unknown", fix=f"one of {', '.join(kind)}") from None


def _by_number(arch: int) -> tuple[Any, bool]:
    """Firmware of this number of option 93, and whether it boots by HTTP."""
    from baremetal.wire.pxe import ARCHES, HTTP_ARCHES

    if arch not in ARCHES:
        known = ", ".join(f"{number} {name}" for number, name in ARCHES.items())
        raise UsageError(f"--arch {arch} is no architecture that boots from a network", fix=f"one of: {known}")
    return ARCHES[arch], arch in HTTP_ARCHES


def _mac(text: str) -> str:
    digits = text.strip().lower().replace(":", "").replace("-", "").replace(".", "")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise UsageError(f"{text!r} is no MAC address", fix="such as 52:54:00:12:34:56")
    return raw.hex(":")
