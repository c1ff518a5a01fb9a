"""`baremetal lab …`: a virtual rack on this machine, in namespaces of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli.words import one_of
from baremetal.errors import NotFound, UsageError

app = typer.Typer(no_args_is_help=True, help="A virtual rack on this machine.")

DEFAULT_STATE = Path("/var/lib/baremetal-lab")


def _machines(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the rack's machines, for the shell; nothing when none runs."""
    from baremetal.errors import BaremetalError

    try:
        found = _ask(Path(context.params.get("state_dir") or DEFAULT_STATE), {"do": "status"})["nodes"]
    except BaremetalError:
        return []
    return [node["name"] for node in found if node["name"].startswith(incomplete)]


State = Annotated[Path, typer.Option("--state-dir", help="Where the lab keeps disks, logs and its socket.")]
AsJson = Annotated[bool, typer.Option("--json", "--yaml", help="One document on stdout, as JSON or as YAML.")]
Node = Annotated[str, typer.Argument(help="Name of a machine.", autocompletion=_machines)]


@app.command()
def up(
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, max=64, help="How many machines.")] = 2,
    firmware: Annotated[
        str,
        typer.Option(
            help="Taken in turn: bios, uefi or bios,uefi.", autocompletion=one_of("bios", "uefi", "bios,uefi")
        ),
    ] = "bios,uefi",
    nic: Annotated[
        str, typer.Option(help="NIC model: virtio, e1000, e1000e.", autocompletion=one_of("virtio", "e1000", "e1000e"))
    ] = "virtio",
    disk: Annotated[
        str,
        typer.Option(
            help="Disk bus: virtio, ahci, nvme, scsi.", autocompletion=one_of("virtio", "ahci", "nvme", "scsi")
        ),
    ] = "virtio",
    disks: Annotated[int, typer.Option(min=1, max=6, help="Disks of each machine.")] = 1,
    nics: Annotated[int, typer.Option(min=1, max=4, help="NICs of each machine.")] = 1,
    secure_boot: Annotated[
        str,
        typer.Option(
            help="Keys in UEFI firmware: microsoft, snakeoil [none].", autocompletion=one_of("microsoft", "snakeoil")
        ),
    ] = "",
    memory_mib: Annotated[int, typer.Option(min=256, max=1 << 20, help="Memory of each machine, MiB.")] = 1024,
    disk_gib: Annotated[
        float, typer.Option(min=0.1, max=65536, help="Size of each disk, GiB; it takes no space until written.")
    ] = 4.0,
    state_dir: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Start a rack in the background: machines off, BMCs answering."""
    from baremetal.lab import launch, spec

    options = {"nic": nic, "disk": disk, "disks": disks, "nics": nics, "memory_mib": memory_mib, "disk_gib": disk_gib}
    options["secure_boot"] = secure_boot
    try:
        made = spec.machines(nodes, tuple(firmware.split(",")), **options)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    _show(launch.up(spec.RackSpec(made), state_dir), as_json)


@app.command()
def demo(
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, max=16, help="How many machines.")] = 2,
    firmware: Annotated[
        str,
        typer.Option(
            help="Taken in turn: bios, uefi or bios,uefi.", autocompletion=one_of("bios", "uefi", "bios,uefi")
        ),
    ] = "bios,uefi",
    image: Annotated[str, typer.Option(help="Golden image definition (images/NAME.toml).")] = "demo",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the rack up at the end.")] = False,
    state_dir: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """From blank disks to configured nodes: build, enroll, inspect, provide, deploy, configure, change."""
    from baremetal.cli.demo import run
    from baremetal.config import Settings
    from baremetal.lab.spec import FIRMWARES

    if bad := [name for name in firmware.split(",") if name not in FIRMWARES]:
        raise UsageError(f"no firmware {bad[0]!r}", fix=f"of {', '.join(FIRMWARES)}, comma-separated")
    cache = Path(os.environ.get("BAREMETAL_CACHE_DIR") or Settings().cache_dir)
    firmwares = tuple(firmware.split(","))
    options = run.Options(state_dir, cache, nodes=nodes, image=image, as_json=as_json, keep=keep, firmwares=firmwares)
    raise typer.Exit(run.run(options))


@app.command()
def status(state_dir: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """The machines of the running rack."""
    _show(_ask(state_dir, {"do": "status"}), as_json)


@app.command()
def console(
    node: Node,
    log: Annotated[bool, typer.Option("--log", help="Print what was logged so far, and end.")] = False,
    state_dir: State = DEFAULT_STATE,
) -> None:
    """A machine's serial console; Ctrl-] ends it."""
    import sys

    found = _node(state_dir, node)
    if not log:
        from baremetal.lab import terminal

        return terminal.attach(Path(found["console"]))
    path = Path(found["log"])
    if path.exists():
        sys.stdout.buffer.write(path.read_bytes())
    return None


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    context: typer.Context,
    node: Node,
    user: Annotated[str, typer.Option("--user", "-l")] = "root",
    identity: Annotated[Path | None, typer.Option("--identity", "-i", help="Private key.")] = None,
    state_dir: State = DEFAULT_STATE,
) -> None:
    """Log in to a machine, inside the lab's network. What follows NODE is the remote command."""
    from baremetal.lab import namespace

    address = _node(state_dir, node)["address"]
    if not address:
        raise NotFound(
            f"{node} has no address yet",
            detail="nothing on the bridge was heard from its MAC",
            fix=f"baremetal lab console {node}",
        )
    key = identity or state_dir / "ssh" / "id_ed25519"
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    argv = ["ssh", *options, *(("-i", str(key)) if key.exists() else ()), f"{user}@{address}", *context.args]
    command = namespace.enter(state_dir, argv)
    os.execvp(command[0], command)  # noqa: S606


def _fault_names(incomplete: str) -> list[str]:
    from baremetal.lab.faults import FAULTS

    return [name for name in FAULTS if name.startswith(incomplete)]


@app.command()
def fault(
    node: Annotated[str, typer.Argument(help="Name of a machine; `list` shows the faults.", autocompletion=_machines)],
    name: Annotated[str, typer.Argument(help="The fault; `heal` takes all back.", autocompletion=_fault_names)] = "",
    state_dir: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Break something: pull a cable, silence a BMC, shrink a disk."""
    from baremetal.cli import render
    from baremetal.lab.faults import FAULTS

    if node == "list":
        rows = [{"fault": k, "what happens": v} for k, v in FAULTS.items()]
        return render.json_out(FAULTS) if as_json else render.table(rows, ["fault", "what happens"])
    if not name:
        raise UsageError("which fault?", fix="known: " + ", ".join(FAULTS))
    _ask(state_dir, {"do": "fault", "node": node, "fault": name})
    render.json_out({"node": node, "fault": name}) if as_json else render.note(f"{node}: {FAULTS[name]}")
    return None


@app.command()
def down(state_dir: State = DEFAULT_STATE) -> None:
    """Stop the rack. Disks stay; nothing else does."""
    from baremetal.cli import render
    from baremetal.lab import launch

    if launch.down(state_dir):
        render.note(f"stopped; its disks stay in {state_dir}")
    else:
        render.note(f"no lab runs in {state_dir}: nothing to stop")


@app.command(name="exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def exec_(context: typer.Context, state_dir: State = DEFAULT_STATE) -> None:
    """Run a command inside the lab's network: `baremetal lab exec -- ipmitool …`."""
    from baremetal.lab import namespace

    if not context.args:
        raise UsageError("which command?", fix="baremetal lab exec -- ip address")
    command = namespace.enter(state_dir, context.args)
    os.execvp(command[0], command)  # noqa: S606


@app.command()
def bmcs(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=5000, help="How many BMCs.")] = 1,
    first: Annotated[str, typer.Option("--address", help="First address; 127.x.x.x needs no set-up.")] = "127.62.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port; below 1024 needs root.")] = 623,
    user: Annotated[str, typer.Option(help="Administrator of every BMC.")] = "admin",
    password: Annotated[str, typer.Option(envvar="BAREMETAL_BMC_PASSWORD", help="Its password.")] = "password",  # noqa: S107
    profile: Annotated[str, typer.Option(help="How the firmware behaves; `list` shows the profiles.")] = "plain",
    latency_ms: Annotated[float, typer.Option(min=0, help="Delay of each answer.")] = 0,
    loss: Annotated[float, typer.Option(min=0, max=1, help="Share of datagrams lost, each way.")] = 0,
    power_delay_s: Annotated[float, typer.Option(min=0, help="Seconds a power order takes.")] = 0,
    broken: Annotated[
        list[str] | None, typer.Option(help="FAULT=COUNT: so many BMCs have this fault; may repeat.")
    ] = None,
    redfish_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Speak Redfish too, over TLS on this port.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Virtual BMCs without machines, in the foreground: something for ipmitool to talk to."""
    import asyncio

    from baremetal.cli import render
    from baremetal.lab import fleet
    from baremetal.lab.profiles import profiles

    if profile == "list":
        return render.table([{"profile": p.name, "about": p.about} for p in profiles().values()], ["profile", "about"])
    sick = dict(_fault_count(text) for text in broken or [])
    spec = fleet.FleetSpec(
        count, first, port, user, password, profile, latency_ms / 1000, loss, power_delay_s, sick, redfish_port
    )

    async def main() -> None:
        ready = asyncio.Event()
        serving = asyncio.create_task(fleet.serve(spec, ready))
        started = asyncio.create_task(ready.wait())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if ready.is_set():
            addresses = spec.addresses
            if as_json:
                render.json_out({"count": count, "port": port, "user": user, "addresses": addresses})
            else:
                render.note(
                    f"{count} BMCs on {addresses[0]} to {addresses[-1]}, port {port}/udp, user {user}; Ctrl-C ends"
                )
        started.cancel()
        served = await serving
        render.note(f"{sum(b.datagrams for b in served)} datagrams answered or ignored")

    asyncio.run(main())
    return None


def _fault_count(text: str) -> tuple[str, int]:
    fault, _, number = text.partition("=")
    if not number.isdigit():
        raise UsageError(f"--broken {text}: not FAULT=COUNT", fix="--broken bmc-silent=50")
    return fault, int(number)


def _ask(state_dir: Path, request: dict[str, Any]) -> dict[str, Any]:
    from baremetal.lab import control

    return control.ask(state_dir, request)


def _node(state_dir: Path, name: str) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = _ask(state_dir, {"do": "status"})["nodes"]
    for node in nodes:
        if node["name"] == name:
            return node
    raise NotFound(f"no machine {name} in this rack", fix="known: " + ", ".join(n["name"] for n in nodes))


def _show(document: dict[str, Any], as_json: bool) -> None:
    from baremetal.cli import render

    if as_json:
        return render.json_out(document)
    columns = ["name", "firmware", "power", "bmc", "macs", "address", "boots", "trouble"]
    return render.table(document["nodes"], columns, empty="no machines")
