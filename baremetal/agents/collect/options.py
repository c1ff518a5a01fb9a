"""Every option of the collector: its name on the command line and in the file, its type, its default.

One table for both. Command line beats files, a later file beats an earlier one.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from baremetal.agents.collect import inifile
from baremetal.agents.collect.errors import BadConfig

CACHE = "/var/lib/os-collect-config"
BACKUP = "/var/run/os-collect-config"
LOCAL = "/var/lib/os-collect-config/local-data"
HEAT_LOCAL = "/var/lib/heat-cfntools/cfn-init-data"
EC2_URL = "http://169.254.169.254/latest/meta-data"
NAME = "os-collect-config"


class Option(NamedTuple):
    """`kind`: text, number, integer, flag, list. `group` "" is [DEFAULT]; `short` a one-letter spelling."""

    group: str
    name: str
    kind: str
    default: Any
    help: str
    short: str = ""


def _keystone(group: str) -> List[Option]:
    names = ("user-id", "password", "project-id", "auth-url", "region-name")
    return [Option(group, name, "text", None, f"{name} at Keystone") for name in names]


TABLE: List[Option] = [
    Option("", "command", "text", None, "run this when something changed", "c"),
    Option("", "cachedir", "text", CACHE, "where collected metadata is kept"),
    Option("", "backup-cachedir", "text", BACKUP, "a copy of the cache, made before each run of the command"),
    Option("", "collectors", "list", None, "sources, in order of priority"),
    Option("", "one-time", "flag", False, "collect once, then exit with the command's status"),
    Option("", "min-polling-interval", "number", 1.0, "seconds until the first poll after start"),
    Option("", "polling-interval", "number", 30.0, "seconds between polls", "i"),
    Option("", "print-cachedir", "flag", False, "print the cache directory and exit"),
    Option("", "force", "flag", False, "run the command even without a change; implies --one-time"),
    Option("", "print", "flag", False, "print what is collected, store nothing, run nothing"),
    Option("", "deployment-key", "list", ["deployments"], "root keys that hold deployments"),
    Option("", "splay", "number", 0.0, "sleep a random time up to this before the first poll"),
    Option("", "debug", "flag", False, "say more"),
    Option("", "log-file", "text", None, "log there instead of stderr"),
    Option("", "keep-last-good", "flag", False, "an unavailable source keeps its last good copy in OS_CONFIG_FILES"),
    Option("local", "path", "list", [LOCAL], "directory of JSON files"),
    Option("heat_local", "path", "list", [HEAT_LOCAL], "JSON file"),
    Option("request", "metadata-url", "text", None, "address of a JSON document"),
    Option("request", "timeout", "number", 10.0, "seconds"),
    Option("ec2", "metadata-url", "text", EC2_URL, "root of the EC2 metadata tree"),
    Option("ec2", "timeout", "number", 10.0, "seconds"),
    Option("cfn", "metadata-url", "text", None, "address of the cfn API"),
    Option("cfn", "heat-metadata-hint", "text", "/var/lib/heat-cfntools/cfn-metadata-server", "file with that address"),
    Option("cfn", "ca-certificate", "text", None, "CA file of the cfn API"),
    Option("cfn", "stack-name", "text", None, "stack"),
    Option("cfn", "path", "list", None, "Resource.Field[.sub.path]"),
    Option("cfn", "secret-access-key", "text", None, "secret key"),
    Option("cfn", "access-key-id", "text", None, "access key"),
    Option("cfn", "deployment-key", "list", None, "deprecated: use --deployment-key"),
    Option("cfn", "timeout", "number", 10.0, "seconds"),
    *_keystone("heat"),
    Option("heat", "stack-id", "text", None, "stack"),
    Option("heat", "resource-name", "text", None, "resource"),
    *_keystone("zaqar"),
    Option("zaqar", "queue-id", "text", None, "queue"),
    Option("zaqar", "use-websockets", "flag", False, "accepted; plain HTTP is used"),
    Option("zaqar", "ssl-certificate-validation", "flag", False, "accepted; certificates are always checked"),
    Option("zaqar", "ca-file", "text", None, "CA file of the messaging endpoint"),
    Option("keystone", "cache-dir", "text", None, "accepted; tokens are kept in memory"),
    Option("keystone", "cache-ttl", "integer", 1800, "seconds a token is used at most"),
    Option("baremetal", "path", "text", "/var/lib/baremetal-agent/metadata.json", "document of the resident agent"),
]
# Options of oslo.log that services pass: taken and ignored.
IGNORED = ("log-dir", "log-config-append", "log-date-format", "syslog-log-facility")
IGNORED_FLAGS = ("use-syslog", "use-journal", "use-json", "use-stderr", "watch-log-file", "verbose")


class Settings:
    """All values: settings["request", "metadata_url"], settings["", "command"]."""

    def __init__(self, values: Dict[Tuple[str, str], Any], files: List[str]) -> None:
        self.values = values
        self.files = files

    def __getitem__(self, key: Tuple[str, str]) -> Any:
        return self.values[key]


def load(argv: Optional[Sequence[str]], prog: str) -> Settings:
    """Command line and files together; argparse exits with 2 on a wrong command line."""
    given = _parser(prog).parse_args(argv)
    files = _files(given)
    from_files = _read_all(files)
    values: Dict[Tuple[str, str], Any] = {}
    for option in TABLE:
        key = (option.group, option.name.replace("-", "_"))
        said = getattr(given, _destination(option))
        if option.name == "collectors":
            said = given.sources or said
        values[key] = said if said is not None else _from_file(option, from_files, key)
    return Settings(_substituted(values), files)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Collect metadata; run a command when it changes.")
    parser.add_argument("sources", nargs="*", metavar="collectors", help="sources, in order of priority")
    parser.add_argument("--config-file", action="append", metavar="FILE", help="later ones win")
    parser.add_argument("--config-dir", action="append", metavar="DIR", help="its *.conf, by name")
    parser.add_argument("--version", action="version", version=_version())
    for option in TABLE:
        _add(parser, option)
    for name in IGNORED:
        parser.add_argument(f"--{name}", metavar="TEXT", help=argparse.SUPPRESS)
    for name in IGNORED_FLAGS:
        parser.add_argument(f"--{name}", f"--no{name}", action="store_true", help=argparse.SUPPRESS)
    return parser


def _version() -> str:
    from baremetal.version import __version__

    return f"baremetal {__version__}"


def _spelling(option: Option) -> str:
    return f"{option.group}-{option.name}" if option.group else option.name


def _destination(option: Option) -> str:
    return f"value_{option.group}_{option.name}".replace("-", "_")


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    names = [f"--{_spelling(option)}"] + ([f"-{option.short}"] if option.short else [])
    if "_" in option.name or option.name in ("ca-certificate", "cache-dir", "cache-ttl"):
        names.append(f"--{option.group}-{option.name.replace('-', '_')}")
    if option.name == "collectors":
        names = ["--collectors"]
    destination = _destination(option)
    if option.kind == "flag":
        parser.add_argument(*names, dest=destination, action="store_const", const=True, help=option.help)
        negative = f"--no{_spelling(option)}"
        parser.add_argument(negative, dest=destination, action="store_const", const=False, help=argparse.SUPPRESS)
        return
    action = "append" if option.kind == "list" else "store"
    convert = _CONVERT[option.kind]
    parser.add_argument(*names, dest=destination, action=action, type=convert, metavar="X", help=option.help)


def _files(given: argparse.Namespace) -> List[str]:
    """Those named; else the first default that exists, and what lies in its .conf.d."""
    if given.config_file or given.config_dir:
        found = list(given.config_file or [])
        for directory in given.config_dir or []:
            found += _confs(directory)
        return found
    found = []
    for stem in (os.path.expanduser(f"~/{NAME}.conf"), f"/etc/{NAME}.conf"):
        if not found and os.path.isfile(stem):
            found.append(stem)
    for directory in (os.path.expanduser(f"~/{NAME}.conf.d"), f"/etc/{NAME}.conf.d"):
        if os.path.isdir(directory):
            found += _confs(directory)
            break
    return found


def _confs(directory: str) -> List[str]:
    try:
        names = sorted(n for n in os.listdir(directory) if n.endswith(".conf"))
    except OSError as exc:
        raise BadConfig(f"cannot read configuration directory {directory}", detail=str(exc)) from exc
    return [os.path.join(directory, name) for name in names]


def _read_all(files: List[str]) -> inifile.Values:
    merged: inifile.Values = {}
    for path in files:
        try:
            with open(path, encoding="utf-8") as f:
                merged.update(inifile.parse(f.read(), path))
        except (OSError, UnicodeDecodeError) as exc:
            raise BadConfig(f"cannot read configuration file {path}", detail=str(exc)) from exc
    return merged


def _from_file(option: Option, found: inifile.Values, key: Tuple[str, str]) -> Any:
    values = found.get((key[0] or "DEFAULT", key[1]))
    if values is None:
        return option.default
    try:
        if option.kind == "list":
            return values
        return _CONVERT[option.kind](values[-1])
    except ValueError as exc:
        raise BadConfig(f"[{key[0] or 'DEFAULT'}] {key[1]} = {values[-1]!r} is not a {option.kind}") from exc


def _flag(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("true", "1", "on", "yes"):
        return True
    if lowered in ("false", "0", "off", "no"):
        return False
    raise ValueError(text)


_CONVERT: Dict[str, Callable[[str], Any]] = {"text": str, "number": float, "integer": int, "flag": _flag, "list": str}
_REFERENCE = re.compile(r"\$\$|\$\{([\w.]+)\}|\$(\w+)|\\\$")


def _substituted(values: Dict[Tuple[str, str], Any]) -> Dict[Tuple[str, str], Any]:
    """`$name` is another option of the same group or of [DEFAULT]; `$$` is a dollar sign."""
    return {key: _expand(value, key[0], values) for key, value in values.items()}


def _expand(value: Any, group: str, values: Dict[Tuple[str, str], Any]) -> Any:
    if isinstance(value, list):
        return [_expand(v, group, values) for v in value]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: "re.Match[str]") -> str:
        name = match[1] or match[2]
        if name is None:
            return "$"
        other, _, inner = name.rpartition(".")
        for key in ((other, inner), (group, name), ("", name)):
            if values.get(key) is not None:
                return str(values[key])
        return match[0]

    return _REFERENCE.sub(replace, value)


def say(text: str) -> None:
    """One line of log, on stderr."""
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)
