"""`baremetal bmc …`: BMCs by the rack, without a server and without enrolment.

Every verb takes `--hosts` and prints one JSON line a host in the order the
answers come, so that `jq` and shell loops read it as they read ipmi-power.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import bmcaccounts, bmcconsole, bmcscan
from baremetal.cli.bmccall import Call, Yes, verb
from baremetal.errors import UsageError

if TYPE_CHECKING:
    from baremetal.bmc.careful import Careful

app = typer.Typer(
    no_args_is_help=True, help="BMCs by the rack: power, identity, boot device, sensors, log, users, audit, scan."
)
bmcscan.register(app)
bmcconsole.register(app)


class Press(StrEnum):
    STATUS = "status"
    ON = "on"
    OFF = "off"
    SOFT = "soft"
    RESET = "reset"
    CYCLE = "cycle"
    DIAG = "diag"


class Boot(StrEnum):
    SHOW = "show"
    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    CDROM = "cdrom"
    BIOS = "bios"
    HTTP = "http"


@verb(app)
def power(
    call: Call,
    what: Annotated[Press, typer.Argument(help="What to press; nothing: only look.")] = Press.STATUS,
    confirm_s: Annotated[
        float, typer.Option("--confirm", help="Seconds on/off may take to be seen; 0: do not look.")
    ] = 20.0,
    wait: Annotated[
        float, typer.Option("--wait", help="With soft: seconds the system may take to shut down; 0: do not look.")
    ] = 0.0,
    then_off: Annotated[
        bool, typer.Option("--then-off", help="With soft and --wait: off, when it is still on.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Power state of every BMC, or one press of every button."""
    from baremetal.bmc.base import PowerOp
    from baremetal.bmc.careful import Care

    if (wait or then_off) and what is not Press.SOFT:
        raise UsageError(f"--wait and --then-off are for soft, not {what.value}", fix="on and off take --confirm")
    if then_off and not wait:
        raise UsageError("--then-off without --wait", fix="say how long the system may take: --wait 120")

    async def status(bmc: Careful) -> dict[str, Any]:
        return {"power": (await bmc.power()).value}

    async def press(bmc: Careful) -> dict[str, Any]:
        await bmc.set_power(PowerOp(what.value))
        return {"power": what.value} if what in (Press.ON, Press.OFF) else {"done": what.value}

    async def softly(bmc: Careful) -> dict[str, Any]:
        from baremetal.bmc.softoff import soft_off

        return {"power": "off", "how": await soft_off(bmc, bmc.name, patience_s=wait, then_off=then_off)}

    if what is Press.STATUS:
        call.run(status)
    call.want_yes(f"power {what.value}{', then off' if then_off else ''}", yes)
    call.timeout = max(call.timeout, wait + confirm_s + 30.0)
    call.run(softly if wait else press, care=Care(confirm_s=confirm_s))


@verb(app)
def info(call: Call) -> None:
    """Who every machine is: vendor, product, serial, UUID, firmware, BMC's MAC. Names twins."""
    import dataclasses

    seen: dict[str, str] = {}

    async def ask(bmc: Careful) -> dict[str, Any]:
        doc = dataclasses.asdict(await bmc.identify())
        return {key: value for key, value in doc.items() if value not in (None, (), {})}

    def twins(verdict: dict[str, Any]) -> None:
        for key in ("uuid", "serial", "bmc_mac"):
            if not verdict.get(key):
                continue
            whole = f"{key} {verdict.get('vendor') if key == 'serial' else ''} {verdict[key]}"
            if (first := seen.setdefault(whole, verdict["host"])) != verdict["host"]:
                verdict.setdefault("same_as", first)

    call.run(ask, touch=twins)


@verb(app)
def bootdev(
    call: Call,
    device: Annotated[Boot, typer.Argument(help="What to boot from; nothing: show it.")] = Boot.SHOW,
    persistent: Annotated[bool, typer.Option("--persistent", help="For every boot, not only the next.")] = False,
    uefi: Annotated[bool | None, typer.Option("--uefi/--bios-mode", help="Boot mode [as it is].")] = None,
    url: Annotated[str, typer.Option("--url", help="With http: what the firmware fetches.")] = "",
) -> None:
    """The boot override of every machine; what is shown after setting it was read back."""
    from baremetal.bmc.base import BootDevice

    if url and device is not Boot.HTTP:
        raise UsageError(f"--url is for http, not {device.value}")

    async def ask(bmc: Careful) -> dict[str, Any]:
        if device is Boot.SHOW:
            plan = await bmc.get_boot()
        elif url:
            plan = await bmc.optional("set_http_boot", url, once=not persistent)
        else:
            plan = await bmc.set_boot(BootDevice(device.value), once=not persistent, uefi=uefi)
        shown = {"bootdev": plan.device.value, "once": plan.once, "uefi": plan.uefi}
        return shown | ({"url": plan.url} if plan.url else {})

    call.run(ask)


@verb(app)
def media(
    call: Call,
    image: Annotated[str, typer.Argument(help="URL of an ISO image for the virtual CD drive, or eject.")],
) -> None:
    """Put an image into every machine's virtual CD drive (Redfish), or take it out."""

    async def ask(bmc: Careful) -> dict[str, Any]:
        if image == "eject":
            await bmc.optional("eject_media")
            return {"media": ""}
        await bmc.optional("insert_media", image)
        return {"media": image}

    call.run(ask)


@verb(app, timeout=120.0)
def firmware(call: Call) -> None:
    """Versions of all firmware the BMC knows of (Redfish)."""

    async def ask(bmc: Careful) -> dict[str, Any]:
        return {"firmware": await bmc.optional("firmware")}

    call.run(ask)


@verb(app, timeout=120.0)
def sensors(call: Call) -> None:
    """All sensors with unit, state and thresholds."""
    import dataclasses

    async def ask(bmc: Careful) -> dict[str, Any]:
        return {"sensors": [dataclasses.asdict(reading) for reading in await bmc.sensors()]}

    call.run(ask)


@verb(app, timeout=300.0)
def events(
    call: Call,
    since: Annotated[str | None, typer.Option("--since", help="Only what came after this record id.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Empty the log after it was printed; wants --yes.")] = False,
    yes: Yes = False,
) -> None:
    """The system event log."""
    import dataclasses

    async def ask(bmc: Careful) -> dict[str, Any]:
        records = [dataclasses.asdict(record) for record in await bmc.events(since)]
        if clear:
            await bmc.clear_events()
        return {"events": records, "cleared": clear} if clear else {"events": records}

    if clear:
        call.want_yes("clear the event log", yes)
    call.run(ask)


@verb(app)
def locate(
    call: Call,
    off: Annotated[bool, typer.Option("--off", help="Switch the light off.")] = False,
    seconds: Annotated[int, typer.Option("--seconds", help="How long; 0: until switched off.")] = 60,
) -> None:
    """The identify light."""

    async def ask(bmc: Careful) -> dict[str, Any]:
        await bmc.locate(not off, seconds or None)
        return {"light": "off" if off else "on"}

    call.run(ask)


@verb(app)
def reset(call: Call, yes: Yes = False) -> None:
    """Restart the BMCs themselves; the machines run on. Silence of 30 to 180 s afterwards is normal."""

    async def ask(bmc: Careful) -> dict[str, Any]:
        await bmc.reset_bmc()
        return {"done": "reset-bmc"}

    call.want_yes("restart the BMC", yes)
    call.run(ask)


bmcaccounts.register(app)
