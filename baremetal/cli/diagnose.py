"""`baremetal diagnose`: a boot as the wire saw it, told as a story per machine; probes of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.words import Json
from baremetal.errors import UsageError

app = typer.Typer()


@app.command()
def diagnose(
    interface: Annotated[str, typer.Option("--interface", "-i", help="Listen here.")] = "",
    pcap: Annotated[Path | None, typer.Option("--pcap", "-r", help="Read this capture instead.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", "-s", help="How long to listen.")] = 60.0,
    save: Annotated[Path | None, typer.Option("--save", "-w", help="Keep the packets in this file.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask for DHCP servers on the interface, then end.")] = False,
    lldp: Annotated[bool, typer.Option("--lldp", help="Which switch port is this interface on? Then end.")] = False,
    as_json: Json = False,
) -> None:
    """What machines asked on the wire, what they were answered, and where it went wrong."""
    if (interface == "") == (pcap is None):
        raise UsageError("say where to look", fix="baremetal diagnose --interface eth1, or --pcap FILE")
    if probe or lldp:
        _ask(interface, probe, lldp, as_json)
        return
    from baremetal.serve import capture
    from baremetal.wire.story import tell

    if pcap is not None:
        frames = capture.from_file(pcap)
    else:
        render.note(f"listening on {interface} for {seconds:.0f} s; Ctrl-C ends it earlier")
        frames = capture.from_interface(interface, seconds, save)
    stories = tell(frames)
    if as_json:
        render.json_out({"machines": [_as_json(story) for story in stories]})
        return
    if not stories:
        render.note("no machine asked to boot")
    for story in stories:
        print(f"{story.mac}  {story.address or 'no address'}  {story.who}")
        for at, text in story.lines:
            print(f"  {at:8.3f} s  {text}")
        for cause in story.causes:
            print(f"  => {cause.brief}\n     {cause.fix}")
        print()


def _ask(interface: str, probe: bool, lldp: bool, as_json: bool) -> None:
    if not interface:
        raise UsageError("probes need an interface", fix="baremetal diagnose --interface eth1 --probe")
    found: dict[str, Any] = {}
    if probe:
        from baremetal.serve.rivals import probe as servers

        found["dhcp_servers"] = servers(interface)
    if lldp:
        from dataclasses import asdict

        from baremetal.serve.capture import neighbours

        render.note("waiting up to 35 s for the switch to name itself")
        found["neighbours"] = [asdict(n) for n in neighbours(interface)]
    if as_json:
        render.json_out(found)
        return
    if probe:
        print(f"DHCP servers on {interface}: {', '.join(found['dhcp_servers']) or 'none answered'}")
    for n in found.get("neighbours", []):
        print(f"{n['interface']} is on {n['switch']} port {n['port']} {n['description']}".rstrip())
    if lldp and not found["neighbours"]:
        print(f"no LLDP on {interface}")


def _as_json(story: Any) -> dict[str, Any]:
    return {
        "mac": story.mac,
        "address": story.address,
        "who": story.who,
        "lines": [{"at": at, "text": text} for at, text in story.lines],
        "causes": [{"brief": c.brief, "fix": c.fix} for c in story.causes],
    }
