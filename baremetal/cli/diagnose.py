"""`baremetal diagnose`: a boot as the wire saw it, told as a story per machine; probes of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import clean, render
from baremetal.cli.words import Json
from baremetal.errors import EXIT_FAILED, UsageError

app = typer.Typer()


@app.command()
def diagnose(
    interface: Annotated[str, typer.Option("--interface", "-i", help="Listen here.")] = "",
    pcap: Annotated[Path | None, typer.Option("--pcap", "-r", help="Read this capture instead.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1, help="How long to listen.")] = 60.0,
    save: Annotated[Path | None, typer.Option("--save", "-w", help="Keep the packets in this file.")] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Ask for DHCP servers as a booting machine; can their boot files be had? Then end."
        ),
    ] = False,
    mac: Annotated[str, typer.Option("--mac", "-m", help="Probe as this machine, not as one nobody knows.")] = "",
    reach: Annotated[
        str, typer.Option("--reach", help="Can this server be reached by TFTP and HTTP from here? Then end.")
    ] = "",
    lldp: Annotated[bool, typer.Option("--lldp", help="Which switch port is this interface on? Then end.")] = False,
    as_json: Json = False,
) -> None:
    """What machines asked on the wire, what they were answered, and where it went wrong."""
    _checked(interface)
    if reach:
        _reach(reach, interface, as_json)
        return
    if (interface == "") == (pcap is None):
        raise UsageError("say where to look", fix="baremetal diagnose --interface eth1, or --pcap FILE")
    if probe or lldp:
        _ask(interface, probe, lldp, mac, as_json)
        return
    from baremetal.serve import capture
    from baremetal.wire.story import tell

    if pcap is not None:
        frames = capture.from_file(pcap)
    else:
        said = f"listening on {interface} for {seconds:.0f} s; Ctrl-C ends it earlier"
        frames = capture.from_interface(interface, seconds, save, lambda: render.note(said))
    stories = tell(frames)
    if as_json:
        render.json_out({"machines": [_as_json(story) for story in stories]})
        return
    if not stories:
        render.note("no machine asked to boot")
    for story in stories:
        print(clean.text(f"{story.mac}  {story.address or 'no address'}  {story.who}"))
        for at, text in story.lines:
            print(clean.text(f"  {at:8.3f} s  {text}"))
        for cause in story.causes:
            print(f"  => {cause.brief}\n     {cause.fix}")
        print()


def _checked(interface: str) -> None:
    """An interface that does not exist is told before anything waits for it."""
    import socket

    from baremetal.config import nearest

    known = [name for _, name in socket.if_nameindex()]
    if interface and interface not in known:
        raise UsageError(f"there is no interface {interface}{nearest(interface, known)}", fix="see: ip link")


def _ask(interface: str, probe: bool, lldp: bool, mac: str, as_json: bool) -> None:
    if not interface:
        raise UsageError("probes need an interface", fix="baremetal diagnose --interface eth1 --probe")
    found: dict[str, Any] = {}
    if probe:
        from dataclasses import asdict

        from baremetal.serve.reach import boot_file
        from baremetal.serve.rivals import offers

        found["dhcp_servers"] = []
        for offer in offers(interface, mac=mac.lower().replace("-", ":")):
            got = boot_file(offer.next_server, offer.boot_file, interface) if offer.boot_file else None
            found["dhcp_servers"].append({**asdict(offer), "boot_file_reached": asdict(got) if got else None})
    if lldp:
        from dataclasses import asdict

        from baremetal.serve.capture import neighbours

        render.note("waiting up to 35 s for the switch to name itself")
        found["neighbours"] = [asdict(n) for n in neighbours(interface)]
    if as_json:
        render.json_out(found)
        return
    if probe:
        _tell_servers(interface, mac, found["dhcp_servers"])
    for n in found.get("neighbours", []):
        print(clean.text(f"{n['interface']} is on {n['switch']} port {n['port']} {n['description']}".rstrip()))
    if lldp and not found["neighbours"]:
        print(f"no LLDP on {interface}")


def _tell_servers(interface: str, mac: str, servers: list[dict[str, Any]]) -> None:
    print(f"DHCP servers on {interface}: {', '.join(s['server'] for s in servers) or 'none answered'}")
    if not servers and not mac:
        render.note("a server that answers known machines only is silent here: probe as one of them with --mac")
    for server in servers:
        offered = "no address (proxyDHCP)" if server["address"] == "0.0.0.0" else server["address"]  # noqa: S104
        file = server["boot_file"] or "none"
        print(clean.text(f"  {server['server']} ({server['mac']}) offers {offered}, boot file {file}"))
        if server["boot_file_reached"]:
            _tell_reach(server["boot_file_reached"])
    if len(servers) > 1:
        print(f"  => {len(servers)} DHCP servers answer\n     stop one, or set proxy = true for this network")


def _reach(server: str, interface: str, as_json: bool) -> None:
    """TFTP and HTTP of one server, by a loader that every installation has."""
    from dataclasses import asdict

    from baremetal.serve import reach

    attempts = [
        reach.tftp(server, "undionly.kpxe", interface),
        reach.tftp(server, "snponly.efi", interface),
        reach.http_get(f"http://{server}:8080/loaders/snponly.efi", interface),
    ]
    if as_json:
        render.json_out({"reached": [asdict(attempt) for attempt in attempts]})
    else:
        for attempt in attempts:
            _tell_reach(asdict(attempt))
    if not all(attempt.ok for attempt in attempts):
        raise typer.Exit(EXIT_FAILED)


def _tell_reach(attempt: dict[str, Any]) -> None:
    print(f"  {'reached' if attempt['ok'] else 'FAILED'}  {attempt['brief']}")
    if attempt["fix"]:
        print(f"     {attempt['fix']}")


def _as_json(story: Any) -> dict[str, Any]:
    return {
        "mac": story.mac,
        "address": story.address,
        "who": story.who,
        "lines": [{"at": at, "text": text} for at, text in story.lines],
        "causes": [{"brief": c.brief, "fix": c.fix} for c in story.causes],
    }
