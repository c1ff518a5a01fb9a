# ruff: noqa: RUF009 (a field of the table is made by a function, as dataclasses.field is)
"""The one table of settings: every setting is one field of Settings, said once.

Precedence: default < file (/etc/baremetal/baremetal.toml) < environment
(BAREMETAL_*) < flags. Only cli, lab and serve read it; everybody else is handed
values. Provisioning networks are [[network]] tables of the file (model/nettable.py
has their keys). Secrets are files, never settings.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baremetal.errors import UsageError
from baremetal.model.network import Network

DEFAULT_FILE = Path("/etc/baremetal/baremetal.toml")
ENV_FILE = "BAREMETAL_CONFIG"
ADDED_NETWORKS = "networks.json"  # in state_dir: what `network add` was told
ENV_PREFIX = "BAREMETAL_"
# Environment variables of ours that are no settings.
ENV_OTHER = frozenset({ENV_FILE, "BAREMETAL_DEBUG", "BAREMETAL_PACKAGE_DIR"})

CLEAN_METHODS = ("metadata", "zero", "discard", "secure", "best")
LOG_LEVELS = ("debug", "info", "warning", "error")
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")


def _setting(default: Any, help_: str, unit: str = "", choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help_, "unit": unit, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Every setting with its default. Times in seconds, sizes in bytes."""

    state_dir: Path = _setting(Path("/var/lib/baremetal"), "database, keys, images, journals, logs", "path")
    run_dir: Path = _setting(Path("/run/baremetal"), "sockets of the running server", "path")
    cache_dir: Path = _setting(Path("/var/cache/baremetal"), "image layers and built images; may be deleted", "path")
    database: str = _setting(
        "", "postgresql://user@host[,host]/name for one or several servers; empty: SQLite in state_dir", "URL"
    )
    server_name: str = _setting("", "this server among several on one PostgreSQL; empty: the host's name", "name")
    http_port: int = _setting(8080, "firmware, iPXE and images on the provisioning networks", "port")
    https_port: int = _setting(8443, "agents on the provisioning networks", "port")
    tftp_port: int = _setting(69, "boot loaders", "port")
    dhcp_port: int = _setting(67, "DHCP", "port")
    proxy_dhcp_port: int = _setting(4011, "PXE boot server (proxy DHCP)", "port")
    api_listen: str = _setting("", "control API on TCP beside the unix socket, like 127.0.0.1:6385", "address:port")
    api_auth: bool = _setting(True, "ask for a token or password on the TCP API; the unix socket never asks", "")
    api_tls: bool = _setting(True, "TLS on the TCP API, with the server certificate made by init", "")
    api_group: str = _setting("", "members of this group may use the unix socket, besides root", "group")
    user: str = _setting("", "the control process runs as this user; empty: stays, without capabilities", "user")
    boot_user: str = _setting("", "the boot process runs as this user after it has bound its ports", "user")
    bmc_workers: int = _setting(4, "processes that talk to BMCs", "processes")
    power_sync_s: float = _setting(120.0, "how often the power state of every node is read; 0: never", "s")
    sensor_poll_s: float = _setting(
        300.0, "how often sensors and event log of resting nodes' BMCs are read; 0: never", "s"
    )
    audit_bmcs: bool = _setting(True, "look for cipher 0, nameless users and the like when a BMC is first known", "")
    soft_off_s: float = _setting(600.0, "how long a system asked to shut down may take before its power is cut", "s")
    force_power: bool = _setting(False, "put a node's power back when somebody else changed it", "")
    record_consoles: bool = _setting(True, "keep the serial console of each boot, where the BMC has SOL", "")
    deploy_limit: int = _setting(250, "nodes that deploy at the same time", "nodes")
    clean_limit: int = _setting(50, "nodes that are cleaned at the same time", "nodes")
    inspect_limit: int = _setting(250, "nodes that are inspected at the same time", "nodes")
    automated_clean: bool = _setting(True, "clean on provide and on release", "")
    clean_method: str = _setting("metadata", "how disks are cleaned", "", CLEAN_METHODS)
    fast_track: bool = _setting(True, "keep the ramdisk up between inspect, provide and deploy", "")
    idle_ramdisk_s: float = _setting(900.0, "how long a ramdisk without work stays up", "s")
    post_s: float = _setting(
        300.0, "power-on to first sight on the network, while a machine's own time is unknown", "s"
    )
    boot_s: float = _setting(240.0, "last sight of a booting machine to its agent's first word", "s")
    hello_s: float = _setting(600.0, "longest way from power-on to the agent's first word", "s")
    boot_tries: int = _setting(3, "network boots before a node is given up", "boots")
    first_boot_s: float = _setting(900.0, "longest first boot until the node has reported its configuration", "s")
    http_connections: int = _setting(2000, "connections that the boot plane holds at once", "connections")
    http_mib_s: int = _setting(
        0,
        "what all downloads by HTTP share, turn by turn; a little under the wire is fair to all; 0: no limit",
        "MiB/s",
    )
    spool_limit: int = _setting(64 * 1024 * 1024, "messages kept on disk while the control plane is away", "bytes")
    event_days: int = _setting(90, "how long events are kept", "days")
    log_level: str = _setting("info", "how much is logged", "", LOG_LEVELS)
    networks: tuple[Network, ...] = ()

    @property
    def database_url(self) -> str:
        """Where the store is."""
        return self.database or f"sqlite:///{self.state_dir / 'baremetal.db'}"

    @property
    def keys_dir(self) -> Path:
        """Sealing and signing keys, 0700."""
        return self.state_dir / "keys"

    @property
    def tls_dir(self) -> Path:
        """Our CA and the server certificate."""
        return self.state_dir / "tls"

    @property
    def images_dir(self) -> Path:
        """The image store."""
        return self.state_dir / "images"

    @property
    def boot_dir(self) -> Path:
        """What the boot process owns: lease journal, spool, last snapshot."""
        return self.state_dir / "boot"

    @property
    def artifacts_dir(self) -> Path:
        """Kernels and composed ramdisks, written by the control process."""
        return self.state_dir / "artifacts"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def api_socket(self) -> Path:
        return self.run_dir / "api.sock"

    @property
    def plane_socket(self) -> Path:
        return self.run_dir / "plane.sock"

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Read file, environment and flags; every mistake is named at once.

        A file that was named must exist; the default one may be absent.
        """
        env = os.environ if env is None else env
        source, document = _read(path or env.get(ENV_FILE) or None)
        problems: list[str] = []
        values = _from_file(document, source, problems)
        values |= _from_env(env, problems)
        values |= {k: _parse(SETTINGS[k], v, f"--{k}", problems) for k, v in (flags or {}).items() if v is not None}
        state_dir = Path(values.get("state_dir", SETTINGS["state_dir"].default))
        networks = _networks(document, source, state_dir, problems)
        if problems:
            raise UsageError(
                f"settings: {len(problems)} mistake{'s' if len(problems) > 1 else ''} in {source}",
                detail="\n".join(problems),
                fix="correct them; every setting is explained in docs/reference/settings.md",
            )
        return cls(**values, networks=networks)


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    type: str
    default: Any
    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.name.upper()


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, str(f.type), f.default, **f.metadata) for f in dataclasses.fields(Settings) if f.metadata
}


def is_postgres(url: str) -> bool:
    """Does this database URL name a PostgreSQL, which several servers may share?"""
    return url.startswith(("postgresql:", "postgres:"))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The words " (did you mean x?)", or nothing."""
    import difflib

    match = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _networks(document: Mapping[str, Any], source: str, state_dir: Path, problems: list[str]) -> tuple[Network, ...]:
    """Those of the file, then those that `network add` put beside them."""
    added = state_dir / ADDED_NETWORKS
    try:
        there = added.exists()
    except OSError:
        there = False
    if "network" not in document and not there:
        return ()
    from baremetal.model.nettable import disjoint, networks_from  # the CLI reads settings at every start: keep it light
    from baremetal.wire.dhcp4.options import check

    networks = networks_from(document.get("network", []), source, problems, check)
    if there:
        tables = _added(added, problems)
        found = networks_from(tables, str(added), problems, check)
        networks += tuple(dataclasses.replace(network, added=True) for network in found)
    disjoint(networks, source, problems)
    return networks


def _added(path: Path, problems: list[str]) -> list[Any]:
    import json

    try:
        return list(json.loads(path.read_text()))
    except PermissionError:
        return []
    except (OSError, ValueError) as exc:
        problems.append(f"{path}: {exc}")
        return []


def _read(path: Path | str | None) -> tuple[str, dict[str, Any]]:
    file = Path(path) if path else DEFAULT_FILE
    if path is None and not file.exists():
        return str(file), {}
    import tomllib

    try:
        return str(file), tomllib.loads(file.read_text())
    except OSError as exc:
        raise UsageError(
            f"settings: cannot read {file}: {exc.strerror}", fix="name an existing file, or run: baremetal init"
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"settings: {file} is not TOML", detail=str(exc), fix="correct the line named") from exc


def _from_file(document: Mapping[str, Any], source: str, problems: list[str]) -> dict[str, Any]:
    values = {}
    for key, value in document.items():
        if key == "network":
            continue
        if key in SETTINGS:
            values[key] = _parse(SETTINGS[key], value, key, problems)
        else:
            problems.append(f"{source}: unknown setting {key!r}{nearest(key, [*SETTINGS, 'network'])}")
    return values


def _from_env(env: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    by_env = {s.env: s for s in SETTINGS.values()}
    values = {}
    for key, text in env.items():
        if key in by_env:
            values[by_env[key].name] = _parse(by_env[key], text, key, problems)
        elif key.startswith(ENV_PREFIX) and key not in ENV_OTHER and (near := nearest(key, by_env, 0.9)):
            # Other programs may own BAREMETAL_* names: only near misses are mistakes.
            problems.append(f"environment: unknown {key}{near}")
    return values


def _parse(setting: Setting, value: Any, where: str, problems: list[str]) -> Any:
    try:
        parsed = _PARSERS[setting.type](value)
        if setting.choices and parsed not in setting.choices:
            raise ValueError(f"{value!r} is none of {', '.join(setting.choices)}")
        return parsed
    except (TypeError, ValueError) as exc:
        problems.append(f"{where}: {exc or f'not a {setting.type}: {value!r}'}")
        return setting.default


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE + FALSE:
        return value.lower() in TRUE
    raise ValueError(f"{value!r} is neither true nor false")


def _parse_int(value: Any) -> int:
    if isinstance(value, bool | float):
        raise ValueError(f"{value!r} is not a whole number")
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a whole number") from None
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    return number


def _parse_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"{value!r} is no length of time")
    return number


def _parse_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _parse_path(value: Any) -> Path:
    path = Path(_parse_str(str(value) if isinstance(value, Path) else value)).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{value!r} is not an absolute path")
    return path


_PARSERS = {"bool": _parse_bool, "int": _parse_int, "float": _parse_float, "str": _parse_str, "Path": _parse_path}
