"""`baremetal bmc …`: BMCs by the rack, without a server and without enrolment.

Every verb takes `--hosts` and prints one JSON line a host in the order the
answers come, so that `jq` and shell loops read it as they read ipmi-power.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import bmcconsole, bmcscan
from baremetal.cli.bmccall import (
    AtOnce,
    Call,
    Driver,
    Hosts,
    KgFile,
    PasswordEnv,
    PasswordFile,
    Plain,
    Scheme,
    Timeout,
    User,
    Yes,
)

if TYPE_CHECKING:
    from baremetal.bmc.base import BmcDriver

app = typer.Typer(
    no_args_is_help=True, help="BMCs by the rack: power, identity, boot device, sensors, log, audit, scan."
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


@app.command()
def power(
    what: Annotated[Press, typer.Argument(help="status, or what to press.")],
    hosts: Hosts,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    confirm_s: Annotated[
        float, typer.Option("--confirm", help="Seconds on/off may take to be seen; 0: do not look.")
    ] = 20.0,
    plain: Plain = False,
    yes: Yes = False,
) -> None:
    """Power state of every BMC, or one press of every button."""
    from baremetal.bmc.base import PowerOp
    from baremetal.bmc.careful import Care

    async def status(bmc: BmcDriver) -> dict[str, Any]:
        return {"power": (await bmc.power()).value}

    async def press(bmc: BmcDriver) -> dict[str, Any]:
        await bmc.set_power(PowerOp(what.value))
        return {"power": what.value} if what in (Press.ON, Press.OFF) else {"done": what.value}

    call = Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    if what is Press.STATUS:
        call.run(status)
    call.want_yes(f"power {what.value}", yes)
    call.run(press, care=Care(confirm_s=confirm_s))


@app.command()
def info(
    hosts: Hosts,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    plain: Plain = False,
) -> None:
    """Who every machine is: vendor, product, serial, UUID, firmware, BMC's MAC. Names twins."""
    import dataclasses

    seen: dict[str, str] = {}

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        doc = dataclasses.asdict(await bmc.identify())
        return {key: value for key, value in doc.items() if value not in (None, (), {})}

    def twins(verdict: dict[str, Any]) -> None:
        key = verdict.get("uuid") or verdict.get("serial") or verdict.get("bmc_mac")
        if key and (first := seen.setdefault(key, verdict["host"])) != verdict["host"]:
            verdict["same_as"] = first

    call = Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    call.run(ask, touch=twins)


@app.command()
def bootdev(
    device: Annotated[Boot, typer.Argument(help="show, or what to boot from.")],
    hosts: Hosts,
    persistent: Annotated[bool, typer.Option("--persistent", help="For every boot, not only the next.")] = False,
    uefi: Annotated[bool | None, typer.Option("--uefi/--bios-mode", help="Boot mode [as it is].")] = None,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    plain: Plain = False,
) -> None:
    """The boot override of every machine; what is shown after setting it was read back."""
    from baremetal.bmc.base import BootDevice

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        if device is Boot.SHOW:
            plan = await bmc.get_boot()
        else:
            plan = await bmc.set_boot(BootDevice(device.value), once=not persistent, uefi=uefi)
        return {"bootdev": plan.device.value, "once": plan.once, "uefi": plan.uefi}

    Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


@app.command()
def sensors(
    hosts: Hosts,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 120.0,
    at_once: AtOnce = None,
    plain: Plain = False,
) -> None:
    """All sensors with unit, state and thresholds."""
    import dataclasses

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        return {"sensors": [dataclasses.asdict(reading) for reading in await bmc.sensors()]}

    Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


@app.command()
def events(
    hosts: Hosts,
    since: Annotated[str | None, typer.Option("--since", help="Only what came after this record id.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Empty the log after it was printed; wants --yes.")] = False,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 300.0,
    at_once: AtOnce = None,
    plain: Plain = False,
    yes: Yes = False,
) -> None:
    """The system event log."""
    import dataclasses

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        records = [dataclasses.asdict(record) for record in await bmc.events(since)]
        if clear:
            await bmc.clear_events()
        return {"events": records, "cleared": clear} if clear else {"events": records}

    call = Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    if clear:
        call.want_yes("clear the event log", yes)
    call.run(ask)


@app.command()
def users(
    hosts: Hosts,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    plain: Plain = False,
) -> None:
    """The accounts of every BMC."""
    import dataclasses

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        return {"users": [dataclasses.asdict(found) for found in await bmc.users()]}

    Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


@app.command()
def locate(
    hosts: Hosts,
    off: Annotated[bool, typer.Option("--off", help="Switch the light off.")] = False,
    seconds: Annotated[int, typer.Option("--seconds", help="How long; 0: until switched off.")] = 60,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    plain: Plain = False,
) -> None:
    """The identify light."""

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        await bmc.locate(not off, seconds or None)
        return {"light": "off" if off else "on"}

    Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


@app.command()
def reset(
    hosts: Hosts,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    kg_file: KgFile = None,
    driver: Driver = None,
    scheme: Scheme = "ipmi",
    timeout: Timeout = 60.0,
    at_once: AtOnce = None,
    plain: Plain = False,
    yes: Yes = False,
) -> None:
    """Restart the BMCs themselves; the machines run on. Silence of 30 to 180 s afterwards is normal."""

    async def ask(bmc: BmcDriver) -> dict[str, Any]:
        await bmc.reset_bmc()
        return {"done": "reset-bmc"}

    call = Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    call.want_yes("restart the BMC", yes)
    call.run(ask)
