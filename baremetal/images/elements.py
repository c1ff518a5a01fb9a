"""Elements: found on a path, resolved by diskimage-builder's own resolver, hooks merged as it merges them.

The answer is sorted by name, where diskimage-builder's comes in Python's set
order and so differs from run to run.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from baremetal.images.errors import BadElement, ElementNotFound
from baremetal.paths import share_dir

ELEMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# diskimage-builder copies every subdirectory of an element but these.
SKIPPED_DIRS = ("tests", "__pycache__", "test-elements")


@dataclass(frozen=True)
class Element:
    """One resolved element and where it was found."""

    name: str
    path: Path


def dib_elements_dir() -> Path:
    """The directory of the elements that come with diskimage-builder."""
    from diskimage_builder import paths

    return Path(paths.get_path("elements"))


def dib_lib_dir() -> Path:
    """diskimage-builder's lib: dib-run-parts and the original driver."""
    from diskimage_builder import paths

    return Path(paths.get_path("lib"))


def search_path(extra: Iterable[Path] = ()) -> list[Path]:
    """Where elements are looked for, first match wins: yours, ours, diskimage-builder's."""
    found: list[Path] = []
    for path in (*extra, share_dir("elements"), dib_elements_dir()):
        if path.is_dir() and path not in found:
            found.append(path)
    return found


def directories(named: Iterable[Path]) -> list[Path]:
    """Directories of elements as --elements-path names them; ElementNotFound for one that is not there."""
    found = [path.resolve() for path in named]
    for path in found:
        if not path.is_dir():
            raise ElementNotFound(f"--elements-path {path}: no such directory", fix="name a directory of elements")
    return found


def available(paths: Sequence[Path]) -> dict[str, Path]:
    """Every element on the path by name; the first directory wins."""
    found: dict[str, Path] = {}
    for root in paths:
        for entry in sorted(root.iterdir()):
            if entry.is_dir() and entry.name not in SKIPPED_DIRS and entry.name not in found:
                found[entry.name] = entry.resolve()
    return found


def resolve(names: Sequence[str], paths: Sequence[Path]) -> list[Element]:
    """The named elements with all they depend on, sorted by name."""
    from diskimage_builder import element_dependencies as dib

    _check_names(names, paths)
    logging.getLogger(dib.__name__).setLevel(logging.CRITICAL)
    try:
        found = dib.get_elements(sorted(set(names)), ":".join(map(str, paths)))
    except dib.MissingElementException as exc:
        missing = str(exc).split("'")[1] if "'" in str(exc) else str(exc)
        raise _missing(missing, paths, wanted_by=_wanted_by(missing, paths)) from exc
    except dib.AlreadyProvidedException as exc:
        detail = str(exc) or _conflict(names, paths)
        raise BadElement("two elements provide the same thing", detail=detail, fix="name only one of them") from exc
    except dib.MissingOSException as exc:
        raise BadElement(
            f"no operating system among: {' '.join(names)}", fix="add one, for example debian-base or debian-minimal"
        ) from exc
    elements = sorted((Element(name, Path(path)) for name, path in found), key=lambda element: element.name)
    for element in elements:  # one that another's element-deps names
        if not ELEMENT_NAME.fullmatch(element.name):
            users = _wanted_by(element.name, paths)
            raise BadElement(f"bad element name {element.name!r}, needed by {users}", fix="correct its element-deps")
    around = circle({element.name: element.path for element in elements})
    if around:
        raise BadElement(
            f"elements need each other in a circle: {' -> '.join(around)}",
            fix=f"take one name out of an element-deps, or make one element of {' and '.join(sorted(set(around)))}",
        )
    return elements


def circle(known: Mapping[str, Path]) -> list[str]:
    """A chain of element-deps that comes back to where it began, or []."""
    needs = {name: [n for n in read_names(path / "element-deps") if n in known] for name, path in known.items()}
    done: set[str] = set()

    def follow(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name not in done:
            for child in needs[name]:
                found = follow(child, [*chain, name])
                if found:
                    return found
            done.add(name)
        return []

    return next(filter(None, (follow(name, []) for name in sorted(needs))), [])


_RELEASE = re.compile(r"DIB_RELEASE=\"?\$\{DIB_RELEASE:-([a-z]+)\}")


def default_release(elements: Iterable[Element]) -> str:
    """The release these elements take when nobody names one: what their environment.d says."""
    for element in elements:
        for path in sorted((element.path / "environment.d").glob("*")):
            match = _RELEASE.search(path.read_text(errors="replace")) if path.is_file() else None
            if match:
                return match[1]
    return "bookworm"


def without_grub_install(element: Element) -> Element:
    """Ours in place of diskimage-builder's own `bootloader`, wherever that was found: GRUB is not installed from
    inside the tree, it is written when the disk is assembled."""
    if element.name == "bootloader":
        script = "finalise.d/50-bootloader"
        found, theirs = element.path / script, dib_elements_dir() / "bootloader" / script
        if found.is_file() and found.read_bytes() == theirs.read_bytes():
            return Element(element.name, share_dir("elements") / "bootloader")
    return element


def with_defaults(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """`vm` without a block-device element gets one, as disk-image-create does it."""
    out = list(dict.fromkeys(names))
    if "vm" in out and not any(name.startswith("block-device-") for name in out):
        out.append("block-device-hybrid" if "block-device-hybrid" in available(paths) else "block-device-gpt")
    return out


def merge_hooks(elements: Sequence[Element], target: Path) -> dict[str, str]:
    """Copy every element's hooks flat into one directory; returns hook path -> element.

    Same rules as disk-image-create's generate_hooks: a same-named file in the
    same subdirectory is an error, files at an element's top level overwrite.
    """
    owner: dict[str, str] = {}
    target.mkdir(parents=True)
    for element in elements:
        _only_files(element)
        for entry in sorted(os.listdir(element.path)):
            source = element.path / entry
            if source.is_dir():
                if entry not in SKIPPED_DIRS:
                    _merge_dir(element, source, target / entry, owner)
            elif source.is_file() and not entry.endswith(".pyc"):
                shutil.copy2(source, target / entry)
                owner[entry] = element.name
    return owner


def _only_files(element: Element) -> None:
    """A pipe or device among its files would be read for ever; links (a unit masked with /dev/null) are copied."""
    for here, _, names in os.walk(element.path):
        for name in names:
            path = Path(here, name)
            if not (path.is_symlink() or path.is_file()):
                raise BadElement(
                    f"{element.name}: {path.relative_to(element.path)} is neither file nor directory", fix="remove it"
                )


def _merge_dir(element: Element, source: Path, target: Path, owner: dict[str, str]) -> None:
    target.mkdir(exist_ok=True)
    for name in sorted(os.listdir(source)):
        if name == "__pycache__":
            continue
        key = f"{source.name}/{name}"
        child = source / name
        if (target / name).exists() and not (child.is_dir() and (target / name).is_dir()):
            raise BadElement(
                f"{key} is in two elements: {owner.get(key, '?')} and {element.name}",
                fix="rename one of the scripts, or drop one of the elements",
            )
        if child.is_dir():
            shutil.copytree(child, target / name, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(child, target / name, follow_symlinks=child.is_file())
        owner[key] = element.name


def _check_names(names: Sequence[str], paths: Sequence[Path]) -> None:
    known = available(paths)
    for name in names:
        if not ELEMENT_NAME.fullmatch(name):
            raise BadElement(f"bad element name {name!r}", fix="letters, digits, dot, dash, underscore")
        if name not in known:
            raise _missing(name, paths)


def _missing(name: str, paths: Sequence[Path], wanted_by: str = "") -> ElementNotFound:
    near = get_close_matches(name, available(paths), 1)
    because = f" (needed by {wanted_by})" if wanted_by else ""
    hint = f"did you mean {near[0]}? " if near else ""
    return ElementNotFound(
        f"element {name!r} not found{because}",
        detail="looked in:\n" + "\n".join(f"  {path}" for path in paths),
        fix=f"{hint}Give its directory with --elements-path",
    )


def _wanted_by(name: str, paths: Sequence[Path]) -> str:
    users = [e for e, p in available(paths).items() if name in read_names(p / "element-deps")]
    return ", ".join(users[:3])


def _conflict(names: Sequence[str], paths: Sequence[Path]) -> str:
    known = available(paths)
    lines = []
    for name in names:
        provided = read_names(known[name] / "element-provides") if name in known else []
        if provided:
            lines.append(f"{name} provides {' '.join(provided)}")
    return "\n".join(lines)


def read_names(path: Path) -> list[str]:
    """One name a line: element-deps and element-provides; [] without the file."""
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError:
        return []
