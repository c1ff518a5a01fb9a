"""Reads images/<name>.toml into a Definition: what to build, nothing about how."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from baremetal.images.errors import BadDefinition
from baremetal.images.sizes import parse_size

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~=/@-]*")  # apt's NAME=VERSION and NAME/RELEASE too
# Set by the build itself, whatever a definition says.
BUILDS_OWN = frozenset(
    (
        *("PATH", "HOME", "TARGET_ROOT", "ELEMENTS_PATH", "IMAGE_NAME", "IMAGE_ELEMENT", "_LIB"),
        *("TMP_BUILD_DIR", "TMP_IMAGE_DIR", "TMP_HOOKS_PATH", "TMP_MOUNT_PATH"),
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV"),
    )
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KINDS = ("disk", "ramdisk", "tree")
FORMATS = ("qcow2", "raw", "raw.zst", "tar", "tgz", "squashfs")
ARCHES = ("amd64",)
FILESYSTEMS = ("ext4", "xfs")
OPTION_TYPES: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool}


@dataclass(frozen=True)
class Option:
    """One typed knob of a definition; sets the environment variable `env`."""

    name: str
    type: str
    default: object
    env: str
    help: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disk:
    """How the tree becomes a disk. `size_bytes` 0: as large as the tree needs plus `extra_bytes`."""

    layout: str = "hybrid"
    size_bytes: int = 0
    extra_bytes: int = 96 << 20
    filesystem: str = "ext4"
    root_label: str = "root"
    mkfs: str = ""  # options of mkfs for the root
    cluster_bytes: int = 2 << 20
    compression: str = "zstd"


@dataclass(frozen=True)
class Definition:
    """A golden image as its author wrote it."""

    name: str
    elements: tuple[str, ...]
    description: str = ""
    kind: str = "disk"
    arch: str = "amd64"
    formats: tuple[str, ...] = ("qcow2",)
    packages: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    ambient: dict[str, str] = field(default_factory=dict)  # of the calling shell; given to elements that name them
    properties: dict[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    disk: Disk = Disk()
    source: Path | None = None
    lock: Path | None = None


def load(path: Path) -> Definition:
    """The definition in one file; its name is the file's stem unless it says otherwise."""
    try:
        doc = tomllib.loads(path.read_text())
    except OSError as exc:
        raise BadDefinition(f"{path}: cannot be read: {exc.strerror}", fix="see: baremetal image list") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadDefinition(f"{path}: not TOML", detail=str(exc)) from exc
    lock = path.with_suffix(".lock")
    definition = from_document(doc, name=path.stem, where=str(path))
    return replace(definition, source=path, lock=lock if lock.exists() else None)


def from_document(doc: Mapping[str, Any], *, name: str, where: str) -> Definition:
    """A Definition from parsed TOML; every unknown key is refused with the nearest known one."""
    allowed = ("description", "kind", "arch", "elements", "packages", "formats", "env", "properties", "options", "disk")
    _known(doc, (*allowed, "name"), where)
    name = str(doc.get("name", name))
    if not NAME.fullmatch(name):
        raise BadDefinition(f"{where}: bad image name {name!r}", fix="use lower-case letters, digits, dot, dash")
    elements = _strings(doc, "elements", where)
    if not elements:
        raise BadDefinition(f"{where}: no elements", fix='add elements = ["debian-base", …]')
    return Definition(
        name=name,
        elements=elements,
        description=str(doc.get("description", "")),
        kind=_choice(doc, "kind", KINDS, "disk", where),
        arch=_choice(doc, "arch", ARCHES, "amd64", where),
        formats=_formats(doc, where),
        packages=_packages(doc, where),
        env=_env(doc.get("env", {}), where),
        properties={str(k): str(v) for k, v in _table(doc, "properties", where).items()},
        options=tuple(_option(k, v, where) for k, v in _table(doc, "options", where).items()),
        disk=_disk(_table(doc, "disk", where), where),
    )


def with_options(definition: Definition, chosen: Mapping[str, str]) -> Definition:
    """The definition with its options resolved into environment variables."""
    known = {option.name: option for option in definition.options}
    for name in chosen:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise BadDefinition(
                f"{definition.name}: no option {name!r}", fix=f"did you mean {near[0]}?" if near else "see: image plan"
            )
    env = dict(definition.env)
    for option in definition.options:
        raw = chosen.get(option.name)
        env[option.env] = _option_text(option, option.default if raw is None else raw, definition.name)
    return replace(definition, env=env)


def _option_text(option: Option, value: object, where: str) -> str:
    text = str(value).strip()
    if option.type == "boolean":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise BadDefinition(f"{where}: option {option.name} is a boolean, not {text!r}")
        return "1" if text.lower() in ("true", "1", "yes") else "0"
    if option.type == "integer" and not re.fullmatch(r"-?[0-9]+", text):
        raise BadDefinition(f"{where}: option {option.name} is an integer, not {text!r}")
    if option.choices and text not in option.choices:
        raise BadDefinition(f"{where}: option {option.name} is one of {', '.join(option.choices)}, not {text!r}")
    return text


def _option(name: str, doc: Any, where: str) -> Option:
    if not isinstance(doc, dict):
        raise BadDefinition(f"{where}: options.{name} is not a table")
    _known(doc, ("type", "default", "env", "help", "choices"), f"{where}: options.{name}")
    kind = _choice(doc, "type", tuple(OPTION_TYPES), "string", where)
    env = str(doc.get("env", "DIB_" + name.upper().replace("-", "_")))
    if not VARIABLE.fullmatch(env):
        raise BadDefinition(f"{where}: options.{name}: bad variable name {env!r}")
    choices = _strings(doc, "choices", where)
    option = Option(name, kind, doc.get("default", ""), env, str(doc.get("help", "")), choices)
    _option_text(option, option.default, where)
    return option


def _disk(doc: Mapping[str, Any], where: str) -> Disk:
    allowed = ("layout", "size", "extra", "filesystem", "root-label", "mkfs", "cluster", "compression")
    _known(doc, allowed, f"{where}: disk")
    base = Disk()
    size = doc.get("size", "auto")
    return Disk(
        layout=_choice(doc, "layout", ("hybrid", "elements"), base.layout, where),
        size_bytes=0 if size == "auto" else parse_size(size),
        extra_bytes=parse_size(doc.get("extra", base.extra_bytes)),
        filesystem=_choice(doc, "filesystem", FILESYSTEMS, base.filesystem, where),
        root_label=str(doc.get("root-label", base.root_label)),
        mkfs=str(doc.get("mkfs", base.mkfs)),
        cluster_bytes=cluster_bytes(doc.get("cluster", base.cluster_bytes), where),
        compression=_choice(doc, "compression", ("zstd", "zlib", "none"), base.compression, where),
    )


def cluster_bytes(value: object, where: str) -> int:
    """The size of a qcow2 cluster: a power of two, 64 KiB to 2 MiB."""
    size = parse_size(value)
    if size & (size - 1) or not 64 << 10 <= size <= 2 << 20:
        raise BadDefinition(f"{where}: cluster size {value!r}", fix="a power of two from 64KiB to 2MiB")
    return size


def _formats(doc: Mapping[str, Any], where: str) -> tuple[str, ...]:
    formats = _strings(doc, "formats", where) or ("qcow2",)
    for text in formats:
        if text not in FORMATS:
            raise BadDefinition(f"{where}: unknown format {text!r}", fix=f"one of {', '.join(FORMATS)}")
    return formats


def _packages(doc: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = _strings(doc, "packages", where)
    for name in names:
        if not PACKAGE.fullmatch(name):
            raise BadDefinition(f"{where}: {name!r} is no name of a package")
    return names


def _env(doc: Any, where: str) -> dict[str, str]:
    if not isinstance(doc, dict):
        raise BadDefinition(f"{where}: env is not a table")
    for name, value in doc.items():
        if not VARIABLE.fullmatch(name):
            raise BadDefinition(f"{where}: bad variable name {name!r} in env")
        if name in BUILDS_OWN:
            raise BadDefinition(f"{where}: env: {name} is set by the build itself", fix="leave it out")
        if not isinstance(value, str | int | float):
            raise BadDefinition(f"{where}: env: {name} is {value!r}", fix="a string, a number, true or false")
    return {name: ("1" if value is True else "0" if value is False else str(value)) for name, value in doc.items()}


def _known(doc: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in doc:
        if key not in allowed:
            near = get_close_matches(key, allowed, 1)
            fix = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(allowed)}"
            raise BadDefinition(f"{where}: unknown key {key!r}", fix=fix)


def _strings(doc: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = doc.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadDefinition(f"{where}: {key} is not a list of strings")
    return tuple(value)


def _table(doc: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = doc.get(key, {})
    if not isinstance(value, dict):
        raise BadDefinition(f"{where}: {key} is not a table")
    return value


def _choice(doc: Mapping[str, Any], key: str, allowed: tuple[str, ...], default: str, where: str) -> str:
    value = str(doc.get(key, default))
    if value not in allowed:
        raise BadDefinition(f"{where}: {key} is one of {', '.join(allowed)}, not {value!r}")
    return value
