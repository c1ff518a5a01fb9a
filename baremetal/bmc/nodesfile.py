"""Reads a file of machines in the dialects operators have, and says everything that is wrong with it at once.

    our TOML / YAML        [[nodes]] name, bmc = "ipmi://…", password | password_env | password_file, macs, …
    TripleO                instackenv.json, nodes.json/yaml (object with `nodes`, or a bare list), old CSV
    Ironic                 the YAML or JSON of `openstack baremetal create`

Opens the named file and nothing else but password files named in it. No
password is ever part of a message.
"""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baremetal.bmc import nodesaddress
from baremetal.bmc import nodesfields as take
from baremetal.bmc.nodesfields import Problem, Row
from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError, UsageError
from baremetal.secrets import Secret

# A nodes file is written by people; this holds thousands of machines.
LARGEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Enrollment:
    """One machine to enrol. `bmc_url` without the password; MACs lower case with colons.

    `properties` holds cpus, memory_mb, local_gb, cpu_arch and capabilities as
    Ironic names them; `driver_info` what a driver wants beyond the URL;
    `extra` what no driver of ours uses but somebody may want to see again.
    """

    index: int
    name: str | None
    bmc_url: str
    username: str
    password: Secret
    macs: tuple[str, ...] = ()
    uuid: str | None = None
    arch: str = "x86_64"
    resource_class: str = "baremetal"
    properties: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, str] = field(default_factory=dict)
    root_device: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: tuple[dict[str, Any], ...] = ()
    driver_info: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes two entries the same machine's BMC."""
        return BmcUrl.parse(self.bmc_url).key


class NodesFileError(UsageError):
    """Everything wrong with a nodes file; `problems` one by one with the entry's index."""

    def __init__(self, where: str, problems: list[Problem]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__(
            f"{where}: {count}, nothing was enrolled",
            detail="\n".join(map(str, problems)),
            fix="correct the entries named above and run the command again; it is safe to repeat",
        )
        self.problems = problems


def load(path: str | Path) -> list[Enrollment]:
    """The machines in a file; NodesFileError with all problems, or UsageError when it cannot be read at all."""
    found, problems = load_some(path)
    if problems:
        raise NodesFileError(str(path), problems)
    return found


def load_some(path: str | Path) -> tuple[list[Enrollment], list[Problem]]:
    """The machines in a file that can be read, and what is wrong with the others."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)  # never by its size: a device or a pipe says 0
        if len(raw) > LARGEST_BYTES:
            raise UsageError(f"{path}: larger than {LARGEST_BYTES >> 20} MiB", fix="split the file")
        text = raw.decode("utf-8-sig")
    except OSError as exc:
        fix = "name a file: TOML, YAML, JSON or CSV; see: baremetal node import --help"
        raise UsageError(f"{path}: cannot be read", detail=exc.strerror or str(exc), fix=fix) from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not UTF-8 text", detail=f"byte {exc.start}", fix="save it as UTF-8") from exc
    return parse_some(text, suffix=path.suffix.lower(), where=str(path))


def parse(text: str, *, suffix: str = ".json", where: str = "nodes file") -> list[Enrollment]:
    """The machines in a text of the kind `suffix` tells: .json .yaml .yml .toml .csv."""
    found, problems = parse_some(text, suffix=suffix, where=where)
    if problems:
        raise NodesFileError(where, problems)
    return found


def parse_some(text: str, *, suffix: str, where: str) -> tuple[list[Enrollment], list[Problem]]:
    """Those that can be read, and what is wrong with the others; a machine that is there twice counts once."""
    if not text.strip():
        raise UsageError(f"{where}: it is empty", fix="one entry a machine; see: baremetal node import --help")
    document = _document(text, suffix, where)
    rows, problems = _rows(document, where)
    found: list[Enrollment] = []
    for row in rows:
        try:
            made = _one(row)
        except BaremetalError as exc:
            row.problem(exc.brief + (f" ({exc.fix})" if exc.fix else ""))
            made = None
        if made is not None:
            found.append(made)
        problems += row.problems
    problems = sorted(problems + take.duplicates(rows), key=lambda item: item.index)
    bad = {problem.index for problem in problems}
    return [one for one in found if one.index not in bad], problems


def _document(text: str, suffix: str, where: str) -> Any:
    """The text as data. Error messages give line and column, never the line itself: it may hold a password."""
    if suffix == ".csv":
        try:
            return take.csv_rows(text)
        except csv.Error as exc:
            raise UsageError(
                f"{where}: not CSV", detail=str(exc)[:200], fix="check quotes; one machine a line"
            ) from None
    if suffix == ".toml":
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            at = str(exc).rpartition("(")[2].rstrip(")")
            raise UsageError(f"{where}: not TOML", detail=at, fix="check quotes and brackets there") from None
    if suffix in (".yaml", ".yml"):
        return _yaml(text, where)
    try:
        return json.loads(text, object_pairs_hook=take.no_duplicates)
    except json.JSONDecodeError as exc:
        raise UsageError(
            f"{where}: not JSON",
            detail=f"{exc.msg} at line {exc.lineno}, column {exc.colno}",
            fix="check commas and quotes",
        ) from None
    except (RecursionError, ValueError) as exc:
        fix = "an object with a list `nodes`, or a bare list; numbers of sane size"
        raise UsageError(f"{where}: cannot be used", detail=str(exc)[:200], fix=fix) from None


def _yaml(text: str, where: str) -> Any:
    import yaml

    from baremetal.model.treesize import too_large

    try:
        doc = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        what = re.sub(r"'[^']*'", "'…'", exc.problem or "")  # it may quote a password that began with * or &
        raise UsageError(f"{where}: not YAML", detail=f"{what} at {at}", fix="check indentation there") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UsageError(f"{where}: not YAML", fix="check indentation and quotes") from None
    if why := too_large(doc):
        raise UsageError(f"{where}: {why}", fix="one entry a machine, written out")
    return doc


def _rows(document: Any, where: str) -> tuple[list[Row], list[Problem]]:
    """The entries, whatever the container: a list, `nodes` in an object, Ironic's chassis."""
    nodes = document
    if isinstance(document, dict):
        nodes = _list(document.get("nodes"), where)
        for chassis in _list(document.get("chassis"), where):
            if isinstance(chassis, dict):
                nodes += _list(chassis.get("nodes"), where)
        if not nodes:
            raise UsageError(f"{where}: no machines in it", fix="an object with a list `nodes`, or a bare list")
    if nodes == []:
        raise UsageError(f"{where}: no machines in it", fix="one entry a machine; see: baremetal node import --help")
    if not isinstance(nodes, list):
        raise UsageError(f"{where}: no list of machines in it", fix="an object with a list `nodes`, or a bare list")
    rows, problems = [], []
    for index, entry in enumerate(nodes):
        if isinstance(entry, dict):
            line = entry.pop(take.LINE, None)
            rows.append(Row(index, {str(key): value for key, value in entry.items()}, line=line))
        else:
            problems.append(Problem(index, None, f"is {type(entry).__name__}, not an object"))
    return rows, problems


def _list(found: Any, where: str) -> list[Any]:
    if not isinstance(found or [], list):
        raise UsageError(f"{where}: no list of machines in it", fix="an object with a list `nodes`, or a bare list")
    return list(found or [])


def _one(row: Row) -> Enrollment | None:
    """One entry in whichever dialect it is; None when it has problems."""
    if "bmc_url" in row.data and "bmc" not in row.data:  # as our API names it
        row.data["bmc"] = row.data.pop("bmc_url")
    if "pm_type" in row.data:
        address = nodesaddress.tripleo_address(row)
    elif "driver" in row.data or "driver_info" in row.data:
        address = nodesaddress.ironic_address(row)
    elif "bmc" in row.data:
        address = _our_address(row)
    else:
        row.problem("has none of bmc, pm_type, driver: how is its BMC reached?")
        return None
    common = take.common(row)
    row.unknown_left()
    if row.problems or address is None:
        return None
    url, password, driver_info = address
    parsed = BmcUrl.parse(url)
    row.key = parsed.key
    return Enrollment(
        index=row.index, bmc_url=str(parsed), username=parsed.user, password=password, driver_info=driver_info, **common
    )


def _our_address(row: Row) -> tuple[str, Secret, dict[str, Any]] | None:
    """`bmc` is the URL; the password stands beside it, in the environment, or in a file."""
    url = row.text("bmc") or ""
    user = row.text("user") or row.text("username")
    parsed = BmcUrl.parse(url)
    if user:
        from dataclasses import replace

        parsed = replace(parsed, user=user)
    return str(parsed), _our_password(row), {}


def _our_password(row: Row) -> Secret:
    given = [key for key in ("password", "password_env", "password_file") if key in row.data]
    if len(given) > 1:
        row.problem(f"has {' and '.join(given)}: one is enough")
    if (variable := row.text("password_env")) is not None:
        if variable not in os.environ:
            row.problem(f"password_env: the environment has no {variable}")
        return Secret(os.environ.get(variable, ""))
    if (path := row.text("password_file")) is not None:
        try:
            return Secret(Path(path).read_bytes().decode("utf-8", "surrogateescape").rstrip("\n"))
        except OSError as exc:
            row.problem(f"password_file {path}: {exc.strerror}")
            return Secret("")
    return Secret(row.text("password", secret=True) or "")
