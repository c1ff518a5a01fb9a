"""`baremetal bmc …`: BMCs by the rack, without a server and without enrolment.

Every verb takes `--hosts` and prints one JSON line a host in the order the
answers come, so that `jq` and shell loops read it as they read ipmi-power.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.errors import EXIT_FAILED, EXIT_OK, BaremetalError, Refused, UsageError
from baremetal.secrets import Secret

if TYPE_CHECKING:
    from baremetal.bmc.base import BmcDriver
    from baremetal.bmc.hosts import Target

app = typer.Typer(
    no_args_is_help=True, help="BMCs by the rack: power, identity, boot device, sensors, log, audit, scan."
)

PASSWORD_ENV = "BAREMETAL_BMC_PASSWORD"  # noqa: S105 - the name of a variable

Hosts = Annotated[
    list[str],
    typer.Option("--hosts", "-H", help="Address, network, range (10.0.0.10-60, bmc[01-40]), URL or file; may repeat."),
]
User = Annotated[str, typer.Option("--user", "-u", help="User where the address has none.")]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", help=f"Variable with the password [{PASSWORD_ENV}].")
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password; one newline is cut.")
]
KgFile = Annotated[Path | None, typer.Option("--kg-file", help="File with K_g, for BMCs with two-key login.")]
Driver = Annotated[str | None, typer.Option("--driver", help="IPMI client: rmcp (ours) or pyghmi.")]
Scheme = Annotated[str, typer.Option("--scheme", help="For addresses without one: ipmi, redfish or auto.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds one BMC may take.")]
AtOnce = Annotated[int | None, typer.Option("--at-once", help="BMCs talked to at once [1024].")]
Plain = Annotated[bool, typer.Option("--plain", help="`host: answer` instead of JSON lines.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it; without this the number of machines is shown and nothing done.")
]


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

    call = _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
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

    call = _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
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

    _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


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

    _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


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

    call = _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
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

    _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


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

    _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain).run(ask)


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

    call = _Call(hosts, user, password_env, password_file, kg_file, driver, scheme, timeout, at_once, plain)
    call.want_yes("restart the BMC", yes)
    call.run(ask)


class _Call:
    """The common part of every verb: whom to ask, with which credentials, and how to show the verdicts."""

    def __init__(
        self,
        hosts: list[str],
        user: str,
        password_env: str | None,
        password_file: Path | None,
        kg_file: Path | None,
        driver: str | None,
        scheme: str,
        timeout: float,
        at_once: int | None,
        plain: bool,
    ) -> None:
        from baremetal.bmc.hosts import expand
        from baremetal.bmc.url import ALIASES

        scheme = ALIASES.get(scheme, scheme)
        options = {"driver": driver} if driver and scheme in ("ipmi", "auto") else {}
        self.targets: list[Target] = expand(hosts, scheme=scheme, user=user, options=options)
        needs = any(
            target.url and target.url.scheme not in ("manual", "fake") and not target.password
            for target in self.targets
        )
        self.password = read_password(password_env, password_file) if needs else Secret("")
        self.kg = Secret(_file(kg_file)) if kg_file else None
        self.timeout = timeout
        self.at_once = at_once
        self.plain = plain

    def want_yes(self, what: str, yes: bool) -> None:
        """Shows how many machines it concerns; goes on only with --yes, or a typed yes."""
        count = len(self.targets)
        if yes:
            return
        question = f"{what}: {count} machine{'s' if count != 1 else ''}"
        if sys.stdin.isatty() and sys.stderr.isatty():
            sys.stderr.write(f"{question}. Go on? [y/N] ")
            sys.stderr.flush()
            if sys.stdin.readline().strip().lower() in ("y", "yes"):
                return
        raise Refused(question, detail="nothing was done", fix="say --yes")

    def run(
        self,
        question: Callable[[BmcDriver], Any],
        *,
        care: Any = None,
        touch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Asks all, prints each verdict as it comes, and ends the program: 0 when every BMC answered."""
        from baremetal.bmc.fleet import ask_all

        failures: Counter[str] = Counter()

        async def work() -> None:
            verdicts = ask_all(
                self.targets,
                question,
                password=self.password,
                kg=self.kg,
                deadline_s=self.timeout,
                care=care,
                at_once=self.at_once,
            )
            async for verdict in verdicts:
                if touch and "error" not in verdict:
                    touch(verdict)
                if "error" in verdict:
                    failures[verdict["error"]["code"]] += 1
                show(verdict, self.plain)

        asyncio.run(work())
        if failures:
            parts = ", ".join(f"{code} {count}" for code, count in failures.most_common())
            sys.stderr.write(f"{len(self.targets)} asked, {sum(failures.values())} failed: {parts}\n")
        raise typer.Exit(EXIT_FAILED if failures else EXIT_OK)


def read_password(variable: str | None, file: Path | None) -> Secret:
    """From the file, the variable, or the terminal; never from the command line, which everybody can read."""
    if variable and file:
        raise UsageError("both --password-env and --password-file", fix="give one of them")
    if file:
        return Secret(_file(file))
    name = variable or PASSWORD_ENV
    if name in os.environ:
        return Secret(os.environ[name])
    if variable:
        raise UsageError(f"the environment has no {variable}", fix=f"export {variable}, or use --password-file")
    if sys.stdin.isatty():
        from getpass import getpass

        return Secret(getpass("BMC password: "))
    raise UsageError("no BMC password", fix=f"--password-file FILE, or export {PASSWORD_ENV}")


def _file(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read", detail=exc.strerror or str(exc)) from exc


def show(verdict: dict[str, Any], plain: bool) -> None:
    """One line a verdict, at once: who pipes us sees answers as they come."""
    import json

    if plain:
        error = verdict.get("error")
        rest = (
            error["brief"].removeprefix(f"{verdict['host']}: ")
            if error
            else " ".join(str(value) for key, value in verdict.items() if key != "host")
        )
        line = f"{verdict['host']}: {rest}"
    else:
        line = json.dumps(verdict, ensure_ascii=True, separators=(", ", ": "))
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


__all__ = ["BaremetalError", "app"]
