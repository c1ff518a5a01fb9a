"""What all `baremetal bmc` verbs share: whom to ask, with which credentials, and how verdicts are shown."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli.joined import Option, joined
from baremetal.cli.words import one_of
from baremetal.errors import EXIT_FAILED, EXIT_OK, Refused, UsageError
from baremetal.secrets import Secret

if TYPE_CHECKING:
    from baremetal.bmc.careful import Careful
    from baremetal.bmc.hosts import Target

TELL_S = 5.0
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
Driver = Annotated[
    str | None,
    typer.Option("--driver", help="IPMI client: rmcp (ours) or pyghmi.", autocompletion=one_of("rmcp", "pyghmi")),
]
Scheme = Annotated[
    str,
    typer.Option(
        "--scheme",
        help="For addresses without one: ipmi, redfish or auto.",
        autocompletion=one_of("ipmi", "redfish", "auto"),
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds one BMC may take.")]
AtOnce = Annotated[int | None, typer.Option("--at-once", help="BMCs talked to at once [1024].")]
Plain = Annotated[bool, typer.Option("--plain", help="`host: answer` instead of JSON lines.")]
JsonLines = Annotated[bool, typer.Option("--json", help="JSON, a line a host: as without it, and instead of --plain.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it; without this the number of machines is shown and nothing done.")
]


# The options every verb takes, in the order of its help.
COMMON: tuple[Option, ...] = (
    ("hosts", Hosts, inspect.Parameter.empty),
    ("user", User, ""),
    ("password_env", PasswordEnv, None),
    ("password_file", PasswordFile, None),
    ("kg_file", KgFile, None),
    ("driver", Driver, None),
    ("scheme", Scheme, "ipmi"),
    ("timeout", Timeout, 60.0),
    ("at_once", AtOnce, None),
    ("plain", Plain, False),
    ("as_json", JsonLines, False),
)


def verb(app: typer.Typer, *, timeout: float = 60.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers `function(call, its own options…)` as a verb that takes COMMON beside them."""
    options = [(name, kind, timeout if name == "timeout" else default) for name, kind, default in COMMON]

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command()(joined(function, Call, after=options))
        return function

    return register


class Call:
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
        as_json: bool = False,
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
        self.plain = plain and not as_json

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
        question: Callable[[Careful], Any],
        *,
        care: Any = None,
        touch: Callable[[dict[str, Any]], None] | None = None,
        last: Callable[[], None] | None = None,
    ) -> None:
        """Asks all, prints each verdict as it comes, and ends the program: 0 when every BMC answered.

        `touch` may add to a good verdict; `last` says something at the end.
        """
        from baremetal.bmc.fleet import ask_all

        failures: Counter[str] = Counter()
        answered = 0

        async def work() -> None:
            nonlocal answered
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
                answered += 1
                if touch and "error" not in verdict:
                    touch(verdict)
                if "error" in verdict:
                    failures[verdict["error"]["code"]] += 1
                show(verdict, self.plain)

        asyncio.run(telling(work(), lambda: f"{answered} of {len(self.targets)} done"))
        if last:
            last()
        if failures:
            parts = ", ".join(f"{code} {count}" for code, count in failures.most_common())
            sys.stderr.write(f"{len(self.targets)} asked, {sum(failures.values())} failed: {parts}\n")
        raise typer.Exit(EXIT_FAILED if failures else EXIT_OK)


async def telling(work: Coroutine[Any, Any, None], line: Callable[[], str]) -> None:
    """Does the work; on a terminal says every few seconds how far it is."""

    async def tell() -> None:
        began = asyncio.get_running_loop().time()
        while sys.stderr.isatty():
            await asyncio.sleep(TELL_S)
            sys.stderr.write(f"{asyncio.get_running_loop().time() - began:6.0f} s  {line()}\n")

    teller = asyncio.create_task(tell())
    try:
        await work
    finally:
        teller.cancel()


def new_password(file: Path | None, variable: str | None) -> str:
    """A new password: from a file, a variable, or typed twice."""
    if file:
        return _file(file)
    if variable:
        if variable not in os.environ:
            raise UsageError(f"the environment has no {variable}", fix=f"export {variable}, or use a file")
        return os.environ[variable]
    if not sys.stdin.isatty():
        raise UsageError("no new password", fix="--new-password-file FILE, --new-password-env NAME, or --random FILE")
    from getpass import getpass

    first = getpass("new password: ")
    if getpass("once more: ") != first:
        raise UsageError("the two differ", fix="type the same twice; nothing was changed")
    return first


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
