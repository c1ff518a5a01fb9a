"""The fields of a nodes file: what each dialect calls them and what is wrong with them."""

from __future__ import annotations

import csv
import io
import re
import uuid as uuids
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")
ARCHES = {"x86_64", "amd64", "x86", "i386", "i686", "aarch64", "arm64", "ppc64le"}
_ARCH_NAMES = {"amd64": "x86_64", "x86": "x86_64", "i386": "x86_64", "i686": "x86_64", "arm64": "aarch64"}
IGNORED = {"_comment"}
LINE = "\0line"  # no column can be called so
INTERFACES = re.compile(
    r"^(bios|boot|console|deploy|firmware|inspect|management|network|power|raid|rescue|storage|vendor)_interface$"
)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one entry. `index` counts from 0, `line` from 1 where the file has a line an entry."""

    index: int
    name: str | None
    text: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}, " if self.line else ""
        return f"{place}node {self.index}{f' ({self.name})' if self.name else ''}: {self.text}"


@dataclass
class Row:
    """One entry while it is read: the keys nobody asked for are unknown in the end."""

    index: int
    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    key: str | None = None
    macs: tuple[str, ...] = ()
    line: int | None = None

    def problem(self, text: str) -> None:
        name = self.data.get("name")
        self.problems.append(Problem(self.index, name if isinstance(name, str) else None, text, self.line))

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


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON that says a key twice means one of them; refuse rather than guess. `_comment` may repeat."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and key not in IGNORED:
            raise ValueError(f"key {key!r} stands twice in one object")
        found[key] = value
    return found


# A CSV that begins with one of these names its columns; without a header the first cell is a pm_type.
_HEADS = {"name", "bmc_url", "driver", "pm_addr", "mac", "macs"}


def csv_rows(text: str) -> list[dict[str, Any]]:
    """`pm_type,pm_addr,pm_user,pm_password,mac` (register-nodes), or a header that names the columns."""
    reader = csv.reader(io.StringIO(text), strict=True)
    lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    lines = [(number, line) for number, line in lines if not line[0].lstrip().startswith("#")]
    names = ["pm_type", "pm_addr", "pm_user", "pm_password", "mac"]
    if lines and ({"pm_type", "bmc"} & {cell.strip() for cell in lines[0][1]} or lines[0][1][0].strip() in _HEADS):
        names, lines = [cell.strip() for cell in lines[0][1]], lines[1:]
    rows: list[dict[str, Any]] = []
    for number, line in lines:
        row: dict[str, Any] = dict(zip(names, (cell.strip() for cell in line), strict=False))
        if len(line) > len(names):
            row["_extra_cells"] = len(line) - len(names)
        row = {key: value for key, value in row.items() if value != ""}
        for key in ("mac", "macs"):
            if key in row:
                row[key] = re.split(r"[ ;|]+", str(row[key]))
        row[LINE] = number
        rows.append(row)
    return rows


def common(row: Row) -> dict[str, Any]:
    """What all dialects share: name, MACs, sizes, capabilities, hints."""
    arch = row.text("arch") or row.text("cpu_arch") or None
    if arch is not None and arch not in ARCHES:
        row.problem(f"arch {arch[:20]!r} is not known")
    if row.text("platform") is not None and arch is None:
        row.problem("platform needs arch")
    properties = _properties(row)
    arch = arch or text_of(properties.get("cpu_arch"))
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
                    row.line,
                )
            )
    return found


def text_of(value: Any) -> str | None:
    """Any value as text, None as None."""
    return None if value is None else str(value)
