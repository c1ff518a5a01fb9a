"""The fields of a nodes file: what each dialect calls them and what is wrong with them."""

from __future__ import annotations

import csv
import io
import re
import uuid as uuids
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from baremetal.secrets import Secret

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")
ARCHES = {"x86_64", "amd64", "x86", "i386", "i686", "aarch64", "arm64", "ppc64le"}
_ARCH_NAMES = {"amd64": "x86_64", "x86": "x86_64", "i386": "x86_64", "i686": "x86_64", "arm64": "aarch64"}
IGNORED = {"_comment"}
INTERFACES = re.compile(
    r"^(bios|boot|console|deploy|firmware|inspect|management|network|power|raid|rescue|storage|vendor)_interface$"
)
# Drivers Ironic has and we reach by their Redfish or IPMI side, and those only a person can press.
_REDFISH = ("redfish", "idrac", "drac", "ilo", "irmc", "xclarity")
_MANUAL = ("manual", "wol", "iboot", "amt", "ucs", "ssh", "ovirt")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one entry. `index` counts from 0."""

    index: int
    name: str | None
    text: str

    def __str__(self) -> str:
        return f"node {self.index}{f' ({self.name})' if self.name else ''}: {self.text}"


@dataclass
class Row:
    """One entry while it is read: the keys nobody asked for are unknown in the end."""

    index: int
    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    key: str | None = None
    macs: tuple[str, ...] = ()

    def problem(self, text: str) -> None:
        name = self.data.get("name")
        self.problems.append(Problem(self.index, name if isinstance(name, str) else None, text))

    def get(self, key: str) -> Any:
        """The value as it stands; None when absent."""
        self.taken.add(key)
        return self.data.get(key)

    def text(self, key: str, *, secret: bool = False) -> str | None:
        """A text (numbers count as text); None when absent. A secret's value never enters a message."""
        value = self.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        self.problem(f"{key}: {'not a text' if secret else f'is {type(value).__name__}, not a text'}")
        return None

    def number(self, key: str) -> int | None:
        """A whole number, also when written as text."""
        value = self.get(key)
        if value in (None, ""):
            return None
        try:
            found = int(str(value))
        except ValueError:
            found = -1
        if isinstance(value, bool) or found < 0:
            self.problem(f"{key}: {str(value)[:40]!r} is not a number")
            return None
        return found

    def object(self, key: str) -> dict[str, Any]:
        """An object; {} when absent."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(f"{key}: is {type(value).__name__}, not an object")
            return {}
        return {str(name): item for name, item in value.items()}

    def unknown_left(self) -> None:
        """Keys nobody asked for are typing mistakes."""
        left = [k for k in self.data if k not in self.taken and k not in IGNORED and not INTERFACES.match(k)]
        for key in sorted(left):
            self.problem(f"unknown key {key[:60]!r}")


Address = tuple[str, Secret, dict[str, Any]]


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON that says a key twice means one of them; refuse rather than guess. `_comment` may repeat."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and key not in IGNORED:
            raise ValueError(f"key {key!r} stands twice in one object")
        found[key] = value
    return found


def csv_rows(text: str) -> list[dict[str, Any]]:
    """`pm_type,pm_addr,pm_user,pm_password,mac` (register-nodes), or a header that names the columns."""
    lines = [line for line in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in line)]
    lines = [line for line in lines if not line[0].lstrip().startswith("#")]
    names = ["pm_type", "pm_addr", "pm_user", "pm_password", "mac"]
    if lines and {"pm_type", "bmc"} & {cell.strip() for cell in lines[0]}:
        names, lines = [cell.strip() for cell in lines[0]], lines[1:]
    rows: list[dict[str, Any]] = []
    for line in lines:
        row: dict[str, Any] = dict(zip(names, (cell.strip() for cell in line), strict=False))
        if len(line) > len(names):
            row["_extra_cells"] = len(line) - len(names)
        row = {key: value for key, value in row.items() if value != ""}
        for key in ("mac", "macs"):
            if key in row:
                row[key] = re.split(r"[ ;|]+", str(row[key]))
        rows.append(row)
    return rows


def tripleo_address(row: Row) -> Address | None:
    """pm_* fields; old spellings of pm_type by their pattern."""
    kind = (row.text("pm_type") or "").lower()
    host, user = row.text("pm_addr"), row.text("pm_user") or ""
    secret, port = row.text("pm_password", secret=True), row.number("pm_port")
    extra = {key: row.get(key) for key in list(row.data) if _passed_on(key)}
    if not kind:
        row.problem("pm_type is empty")
        return None
    if "ipmi" in kind:
        return _ipmi(row, host, user, secret, port, extra)
    if any(word in kind for word in _REDFISH):
        return _redfish(row, kind, host, user, secret, port, extra)
    if kind.startswith("fake"):
        return f"fake://{_label(row, host)}", Secret(secret or ""), {**extra, "pm_type": kind}
    if any(word in kind for word in _MANUAL):
        return f"manual://{_label(row, host)}", Secret(secret or ""), {**extra, "pm_type": kind, **_where(host, port)}
    row.problem(f"pm_type {kind[:40]!r} is not known")
    return None


def _passed_on(key: str) -> bool:
    prefixes = ("ipmi_", "redfish_", "drac_", "ilo_", "irmc_", "xclarity_", "ansible_")
    named = (
        "vm_name",
        "relay_id",
        "service_profile",
        "auth_method",
        "client_timeout",
        "sensor_method",
        "deploy_iso",
        "virt_type",
    )
    return key.startswith(prefixes) or key in {f"pm_{name}" for name in named}


def _where(host: str | None, port: int | None) -> dict[str, Any]:
    return {name: value for name, value in (("pm_addr", host), ("pm_port", port)) if value is not None}


def _label(row: Row, host: str | None) -> str:
    name = row.data.get("name")
    label = name if isinstance(name, str) and name else host or f"node-{row.index}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", label).strip("-.") or f"node-{row.index}"


def _ipmi(
    row: Row, host: str | None, user: str, secret: str | None, port: int | None, extra: dict[str, Any]
) -> Address | None:
    if not host:
        row.problem("pm_addr is missing")
        return None
    options = {}
    cipher = extra.pop("ipmi_cipher_suite", None)
    if cipher is not None:
        options["cipher"] = str(cipher)
    level = extra.pop("ipmi_priv_level", None)
    if level is not None:
        options["privilege"] = str(level).lower()
    return _url("ipmi", user, host, port, "", options), Secret(secret or ""), extra


def _redfish(
    row: Row, kind: str, host: str | None, user: str, secret: str | None, port: int | None, extra: dict[str, Any]
) -> Address | None:
    system = row.text("pm_system_id")
    for key, value in (("pm_addr", host), ("pm_user", user), ("pm_password", secret)):
        if not value:
            row.problem(f"{key} is missing")
    if kind == "redfish" and not system:
        row.problem("pm_system_id is missing")
    if not host or not user or not secret:
        return None
    scheme = "redfish+https"
    if host.startswith(("http://", "https://")):
        scheme, host = f"redfish+{host.partition('://')[0]}", host.partition("://")[2].rstrip("/")
    options = {}
    verify = extra.pop("redfish_verify_ca", None)
    if verify is not None and scheme == "redfish+https":
        options["verify"] = {"true": "ca", "false": "none"}.get(str(verify).lower(), str(verify))
    path = system or ""
    if path and not path.startswith("/"):
        options["system"], path = path, ""
    return _url(scheme, user, host, port, path, options), Secret(secret), {**extra, "pm_type": kind}


def _url(scheme: str, user: str, host: str, port: int | None, path: str, options: dict[str, str]) -> str:
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    at = f"{quote(user, safe='', errors='surrogateescape')}@" if user else ""
    query = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{at}{host}{f':{port}' if port is not None else ''}{quote(path)}{query}"


def ironic_address(row: Row) -> Address | None:
    """Ironic's `driver` and `driver_info` as `openstack baremetal create` takes them."""
    kind = (row.text("driver") or "").lower()
    info = row.object("driver_info")
    if "ipmi" in kind:
        picked = {name: info.pop(f"ipmi_{name}", None) for name in ("address", "username", "password", "port")}
        port = _port(row, picked["port"])
        return _ipmi(
            row, _text(picked["address"]), _text(picked["username"]) or "", _text(picked["password"]), port, info
        )
    if any(word in kind for word in _REDFISH):
        prefix = next((p for p in ("redfish", "drac", "ilo", "irmc", "xclarity") if f"{p}_address" in info), "redfish")
        picked = {
            name: info.pop(f"{prefix}_{name}", None)
            for name in ("address", "username", "password", "system_id", "port")
        }
        row.data["pm_system_id"] = picked["system_id"] or "/redfish/v1"
        address = _text(picked["address"])
        return _redfish(
            row,
            kind,
            address,
            _text(picked["username"]) or "",
            _text(picked["password"]),
            _port(row, picked["port"]),
            info,
        )
    if kind.startswith("fake"):
        return f"fake://{_label(row, None)}", Secret(""), info
    if kind.startswith("manual"):
        return f"manual://{_label(row, None)}", Secret(""), info
    row.problem(f"driver {kind[:40]!r} is not known" if kind else "driver is missing")
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _port(row: Row, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        row.problem("port is not a number")
        return None


def common(row: Row) -> dict[str, Any]:
    """What all dialects share: name, MACs, sizes, capabilities, hints."""
    arch = row.text("arch") or row.text("cpu_arch") or None
    if arch is not None and arch not in ARCHES:
        row.problem(f"arch {arch[:20]!r} is not known")
    if row.text("platform") is not None and arch is None:
        row.problem("platform needs arch")
    properties = _properties(row)
    arch = arch or _text(properties.get("cpu_arch"))
    capabilities = _capabilities(row, row.get("capabilities") or properties.pop("capabilities", None))
    if (profile := row.text("profile")) is not None:
        capabilities["profile"] = profile
    hints = row.object("root_device") or properties.pop("root_device", None) or {}
    if not isinstance(hints, dict):
        row.problem("root_device: not an object of hints")
    row.macs, ports = _macs(row)
    extra = {key: row.get(key) for key in _EXTRA if key in row.data}
    return {
        "name": _name(row),
        "uuid": _uuid(row),
        "macs": row.macs,
        "ports": ports,
        "arch": _ARCH_NAMES.get(arch or "x86_64", arch or "x86_64"),
        "resource_class": row.text("resource_class") or "baremetal",
        "properties": properties,
        "capabilities": capabilities,
        "root_device": hints if isinstance(hints, dict) else {},
        "labels": {key: str(value) for key, value in row.object("labels").items()},
        "extra": {key: value for key, value in extra.items() if value is not None},
    }


_EXTRA = (
    "conductor_group",
    "kernel_id",
    "ramdisk_id",
    "platform",
    "extra",
    "owner",
    "lessee",
    "description",
    "traits",
    "instance_info",
    "network_data",
    "chassis_uuid",
    "automated_clean",
    "protected",
)


def _properties(row: Row) -> dict[str, Any]:
    found = row.object("properties")
    for key, name in (("cpu", "cpus"), ("cpus", "cpus"), ("memory", "memory_mb"), ("memory_mb", "memory_mb")):
        if (value := row.number(key)) is not None:
            found[name] = value
    for key in ("disk", "local_gb"):
        if (value := row.number(key)) is not None:
            found["local_gb"] = value
    return found


def _name(row: Row) -> str | None:
    name = row.text("name")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._~-]{0,253}[A-Za-z0-9])?", name):
        row.problem(f"name {name[:40]!r}: letters, digits, dots, hyphens and underscores only")
    return name


def _uuid(row: Row) -> str | None:
    text = row.text("uuid")
    if text is None:
        return None
    try:
        return str(uuids.UUID(text))
    except ValueError:
        row.problem(f"uuid {text[:40]!r} is none")
        return None


def _capabilities(row: Row, value: Any) -> dict[str, str]:
    """`"a:1,b:2"` or an object."""
    if value in (None, ""):
        return {}
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    if isinstance(value, str) and all(":" in item for item in value.split(",")):
        pairs = (item.split(":", 1) for item in value.split(","))
        return {key.strip(): item.strip() for key, item in pairs}
    row.problem('capabilities: neither an object nor a text like "profile:web,boot_option:local"')
    return {}


def _macs(row: Row) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    """MACs of `ports`, `mac` and `macs`, each once; a port's other members are kept."""
    given: list[tuple[Any, dict[str, Any]]] = []
    for key in ("ports", "mac", "macs"):
        value = row.get(key)
        items = [value] if isinstance(value, (str, dict)) else value or []
        if not isinstance(items, list):
            row.problem(f"{key}: is {type(value).__name__}, not a list")
            continue
        for item in items:
            port = {str(k): v for k, v in item.items()} if isinstance(item, dict) else {"address": item}
            given.append((port.get("address"), port))
    macs: list[str] = []
    ports: list[dict[str, Any]] = []
    for address, port in given:
        mac = str(address).strip().lower().replace("-", ":")
        if not _MAC.match(mac):
            row.problem(f"MAC {str(address)[:40]!r} is none")
        elif mac in macs:
            row.problem(f"MAC {mac} stands twice")
        else:
            macs.append(mac)
            ports.append({**port, "address": mac})
    return tuple(macs), tuple(ports)


def duplicates(rows: list[Row]) -> list[Problem]:
    """Two entries with the same MAC, BMC or name."""
    places: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for mac in row.macs:
            places["MAC", mac].append(row)
        if row.key and not row.key.startswith("fake:"):
            places["BMC address", row.key].append(row)
        if isinstance(row.data.get("name"), str):
            places["name", row.data["name"]].append(row)
    found = []
    for (what, value), users in places.items():
        for row in users[1:]:
            name = row.data.get("name")
            found.append(
                Problem(
                    row.index,
                    name if isinstance(name, str) else None,
                    f"{what} {value} is also node {users[0].index}'s",
                )
            )
    return found
