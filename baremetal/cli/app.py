"""The tree of commands. A noun's module is imported when the noun is used, not before.

The help lines stand here so that `baremetal --help` imports no noun (a test
holds it under its CPU budget).
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from baremetal.cli import failure, helppage, quick

quick.install()
helppage.install()

# noun -> (module, help). A module may be absent in a stripped installation: its noun is not shown then.
NOUNS: dict[str, tuple[str, str]] = {
    "node": ("node", "Machines: enroll, list, inspect, provide, deploy, power, explain, timeline …"),
    "inspection": ("inspection", "Rules and SKUs that judge what inspection finds: add, list, test, reprocess."),
    "allocation": ("allocation", "Hold a node by class, traits, labels; why no node was chosen."),
    "metadata": ("metadata", "What nodes are configured from: show, set, unset, diff, status."),
    "image": ("image", "Golden images: build, add, list, show, delete."),
    "element": ("element", "Image elements: list, show, new."),
    "network": ("network", "Provisioning networks: add, list, show, leases, unknown machines."),
    "boot": ("boot", "What machines ask at boot and are told: explain, watch, iPXE errors."),
    "diagnose": ("diagnose", "A boot as the wire saw it, told per machine; rivals, switch ports."),
    "bmc": ("bmc", "BMCs by the rack, without a server: power, identity, boot device, audit, scan."),
    "events": ("events", "What happened, newest last; --follow to watch."),
    "watch": ("watch", "The whole rack, live."),
    "status": ("status", "Is the server well? Nodes by state, planes, database."),
    "serve": ("serve", "Run the server: DHCP, TFTP, HTTP(S), API, workflows."),
    "init": ("init", "Make configuration, keys, certificates and database; run it again at any time."),
    "server": ("server", "Servers that share one database: who lives, who drives which node."),
    "doctor": ("doctor", "Check this machine and its networks; every finding with its fix."),
    "settings": ("settings", "Every setting: value in force, default, meaning."),
    "lab": ("lab", "A virtual rack on this machine: up, status, console, ssh, fault, down, demo."),
    "db": ("db", "Database: backup, check, restore, move to PostgreSQL."),
    "audit": ("audit", "Who asked for what."),
    "webhook": ("webhook", "Events sent, signed, to other servers."),
    "api": ("api", "Tokens and users of the TCP API, its OpenAPI document."),
}
# Dispatched before any of this is imported (cli/__init__.py).
AGENT = "On a node: the resident agent, and os-collect-config, os-apply-config, os-refresh-config."
_HERE = Path(__file__).parent


class LazyGroup(TyperGroup):
    """Knows its commands by name and help; imports one when it is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [noun for noun, (module, _) in NOUNS.items() if (_HERE / f"{module}.py").exists()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in NOUNS:
            return None
        try:
            module = importlib.import_module(f"baremetal.cli.{NOUNS[cmd_name][0]}")
        except ModuleNotFoundError as exc:
            if exc.name and exc.name.startswith("baremetal.cli."):
                return None
            raise
        module.app._add_completion = False  # the root's options install it for all
        return typer.main.get_command(module.app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in NOUNS:
            failure.unknown_command(args[0], [*NOUNS, "agent"])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            rows = [(noun, NOUNS[noun][1]) for noun in self.list_commands(ctx)]
            formatter.write_dl([*rows, ("agent", AGENT)])


app = typer.Typer(
    cls=LazyGroup,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=helppage.HELP_OPTIONS,
)


def _version(asked: bool) -> None:
    if asked:
        from baremetal.version import __version__

        typer.echo(f"baremetal {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Errors name a fix; exit codes: docs/reference/exit-codes.md. "
    "Settings: /etc/baremetal/baremetal.toml, BAREMETAL_*, `baremetal settings`."
)
def root(
    server: str = typer.Option("", "--server", envvar="BAREMETAL_SERVER", help="URL of the API [the unix socket]."),
    config: str = typer.Option("", "--config", "-c", envvar="BAREMETAL_CONFIG", help="Configuration file."),
    _version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """From racked machines to configured nodes: enroll, inspect, provide, deploy, configure."""
    if server:
        os.environ["BAREMETAL_SERVER"] = server
    if config:
        os.environ["BAREMETAL_CONFIG"] = config


def run(arguments: list[str]) -> int:
    """Run the command; returns its exit code. Never a traceback."""
    words = _as_elsewhere(arguments)
    command = typer.main.get_command(app)
    return failure.guard(lambda: command.main(words, prog_name="baremetal", standalone_mode=False))


def _as_elsewhere(words: list[str]) -> list[str]:
    """`help node list` and `version`, as other tools have them."""
    match words:
        case ["help", *rest]:
            return [*rest, "--help"]
        case [*nouns, "help"] if nouns and not nouns[-1].startswith("-") and len(nouns) < 3:
            return [*nouns, "--help"]
        case ["version"]:
            return ["--version"]
    return words
