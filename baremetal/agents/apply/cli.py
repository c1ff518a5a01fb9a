"""`baremetal agent apply`, in images also os-apply-config: options, environment and exit statuses of the original.

0 done, 1 a known error, 2 usage; --boolean-key: 0 true, 1 false, 255 neither;
--diff: 0 nothing to do, 2 something. Only what a call needs is imported: scripts
ask for single keys dozens of times per run.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, List, Optional, Sequence

from baremetal.agents.apply import metadata
from baremetal.agents.apply.errors import BadMetadata
from baremetal.errors import BaremetalError

TEMPLATES = "/usr/libexec/os-apply-config/templates"
OLD_TEMPLATES = ("/opt/stack/os-apply-config/templates", "/opt/stack/os-config-applier/templates")
STATE = "/var/lib/baremetal-agent"


def main(argv: Optional[Sequence[str]] = None, prog: str = "os-apply-config") -> int:
    options = _parser(prog).parse_args(argv)
    try:
        return _run(options)
    except BaremetalError as exc:
        print(f"{prog}: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"{prog}: {exc.strerror or exc}: {exc.filename or ''}".rstrip(": "), file=sys.stderr)
        return 1


def templates_root() -> str:
    """Where templates are: the environment, else the first known place that exists, else the newest of them."""
    from_environment = os.environ.get("OS_CONFIG_APPLIER_TEMPLATES")
    if from_environment is not None:
        return from_environment
    for path in (TEMPLATES, *OLD_TEMPLATES):
        if os.path.isdir(path):
            return path
    return TEMPLATES


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Render templates from metadata and put the results in place."
    )
    add = parser.add_argument
    add("-t", "--templates", default=templates_root(), metavar="DIR", help="template root (default: %(default)s)")
    add("-o", "--output", default="/", metavar="DIR", help="output root (default: %(default)s)")
    add("-m", "--metadata", nargs="*", metavar="FILE", help="metadata files, later ones win; overrides OS_CONFIG_FILES")
    add("--fallback-metadata", nargs="*", default=list(metadata.DEFAULT_FALLBACK), metavar="FILE", help="read first")
    add(
        "--os-config-files",
        default=os.environ.get("OS_CONFIG_FILES_PATH", metadata.DEFAULT_LIST),
        metavar="FILE",
        help="JSON list of metadata files, used without -m and OS_CONFIG_FILES (default: %(default)s)",
    )
    add("-s", "--subhash", metavar="KEY", help="use this object of the metadata as the root")
    add("-v", "--validate", action="store_true", help="render everything, write nothing")
    add("--print-templates", action="store_true", help="print the template root")
    add("--key", metavar="KEY", help="print one value, a dotted path")
    add("--type", default="default", metavar="TYPE", help="what --key must be: default int netaddress netdevice dsn …")
    add("--key-default", metavar="VALUE", help="printed when the key is missing")
    add("--boolean-key", metavar="KEY", help="exit 0 when true, 1 when false, 255 otherwise")
    add("--diff", "--dry-run", action="store_true", help="show what would change, secrets masked; exit 2 if anything")
    add("--show-secrets", action="store_true", help="with --diff: mask nothing")
    add("--strict", action="store_true", help="a missing mustache key is an error")
    add("--allow-empty-metadata", action="store_true", help="render even when there is no metadata file at all")
    add("--exec-timeout", type=float, metavar="S", help="seconds an executable template may take")
    add("--state", metavar="DIR", help=f"journal and manifest (default as root, with -o /: {STATE})")
    add("--version", action="version", version=_version())
    return parser


def _version() -> str:
    from baremetal.version import __version__

    return f"baremetal {__version__}"


def _run(options: argparse.Namespace) -> int:
    if options.print_templates:
        print(options.templates)
        return 0
    if options.key is not None and options.boolean_key is not None:
        print("--boolean-key is ignored beside --key", file=sys.stderr)
    collected = metadata.load([*options.fallback_metadata, *_paths(options)])
    if options.key is not None:
        return _print_key(collected.values, options)
    if options.boolean_key is not None:
        return _boolean_key(collected.values, options.boolean_key)
    if not collected.files and not options.allow_empty_metadata:
        raise BadMetadata(
            "there is no metadata at all: nothing was rendered",
            detail="none of the metadata files exists; rendering would blank every configuration file",
            fix="name a file with -m, or say --allow-empty-metadata",
        )
    values = metadata.sub_hash(collected.values, options.subhash) if options.subhash else collected.values
    return _install(values, options)


def _paths(options: argparse.Namespace) -> List[str]:
    if options.metadata:
        return list(options.metadata)
    if "OS_CONFIG_FILES" in os.environ:
        return os.environ["OS_CONFIG_FILES"].split(":")
    listed = metadata.listed(options.os_config_files)
    if not listed and options.os_config_files == metadata.DEFAULT_LIST:
        return metadata.listed(metadata.OLD_LIST)
    return listed


def _print_key(values: Any, options: argparse.Namespace) -> int:
    from baremetal.agents.apply.values import check, find, printed

    value = find(values, options.key)
    if value is None:
        if options.key_default is None:
            raise BadMetadata(
                f"key {options.key!r} is not in the metadata", fix="--key-default gives a value for that case"
            )
        _print(options.key_default)
        return 0
    check(str(value), options.type, options.key)
    _print(printed(value))
    return 0


def _print(text: str) -> None:
    """UTF-8 whatever the locale says."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _boolean_key(values: Any, key: str) -> int:
    from baremetal.agents.apply.values import find

    value = find(values, key)
    return {True: 0, False: 1}[value] if isinstance(value, bool) else 255


def _install(values: Any, options: argparse.Namespace) -> int:
    from baremetal.agents.apply.lock import held
    from baremetal.agents.apply.render import Renderer
    from baremetal.agents.apply.transaction import Transaction, changes_for

    plan = Renderer(strict=options.strict, exec_timeout_s=options.exec_timeout).render(
        options.templates, options.output, values
    )
    if options.validate:
        return 0
    if options.diff:
        return _diff(changes_for(plan), values, options.show_secrets)
    if not plan:
        return 0
    state = options.state or (STATE if os.geteuid() == 0 and options.output == "/" else None)
    with held(state):
        changes = changes_for(plan)
        transaction = Transaction(changes, state, "apply")
        transaction.stage()
        transaction.commit()
        transaction.finish()
        if state is not None:
            _remember(state, plan, changes)
    return 0


def _remember(state: str, plan: List[Any], changes: List[Any]) -> None:
    from baremetal.agents.apply.manifest import Manifest

    Manifest(os.path.join(state, "manifest.json")).update(plan, [change.path for change in changes])


def _diff(changes: List[Any], values: Any, show_secrets: bool) -> int:
    from baremetal.agents.apply.diff import secrets_in, unified

    text = unified(changes, secrets_in(values), show_secrets=show_secrets)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    return 2 if changes else 0
