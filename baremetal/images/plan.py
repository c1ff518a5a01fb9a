"""Which phases an image has, in diskimage-builder's order, and which layer each one needs.

Knows keys and layers; runs nothing. builder.py walks the same steps and runs
what is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images import keys
from baremetal.images.contents import INDEX, walk
from baremetal.images.elements import Element
from baremetal.images.environment import keyed
from baremetal.images.layers import Layer
from baremetal.images.rereading import MARK
from baremetal.paths import PACKAGE

PACKAGES_SCRIPT = "01-package-installs"
WITH_PACKAGES = ("02-one-initrd",)  # belongs to the layer of the packages, when it comes right after them
# What agents and ramdisk elements install of us on nodes.
NODE_ROOMS = ("errors.py", "model", "protocol", "agents", "version.py", "__init__.py")
# What an element runs of us during the build, by the word that tells.
BUILD_ROOMS = ("images/leanrd.py", "images/cpio.py", "images/modules.py")
# Path components too common to tell whether a script reads a file.
_COMMON = frozenset(["tmp", "usr", "share", "var", "lib", "etc", "opt", "local", "root", "bin", "sbin", "home", "srv"])


@dataclass(frozen=True)
class Step:
    """A group of scripts that makes one layer. `where`: host, or target (chroot)."""

    name: str
    phase: str
    where: str
    scripts: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    system: bool = True
    late: bool = True  # False: blind to what extra-data put in the tree, unless it names it


@dataclass
class Planned:
    """A step with its key, its layer when there is one, and why it runs or not."""

    step: Step
    key: str
    inputs: keys.Inputs
    layer: Layer | None = None
    why: str = ""


@dataclass
class Context:
    """What all steps share."""

    name: str
    elements: Sequence[Element]
    hooks: Path
    env: Mapping[str, str]
    packages: tuple[str, ...]
    base: Mapping[str, str]  # inputs of the first layer: mirror, lock, runner
    fstab: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)  # what source repositories hold now
    contents: list[str] = field(default_factory=list)
    extra_index: dict[str, str] = field(default_factory=dict)


ORDER = (
    "root",
    "extra-data",
    "pre-install",
    "packages",
    "install",
    "post-install",
    "post-root",
    "pre-finalise",
    "finalise",
    "cleanup",
)


def steps(hooks: Path, packages: Sequence[str] = (), *, disk: bool = False) -> list[Step]:
    """The groups of scripts in the order they run. Call it again after extra-data: that may add links.

    `disk`: there will be an /etc/fstab, written in finalise.
    """
    found = [Step("root", "root", "host", tuple(keys.scripts_of(hooks, "root")), system=False)]
    found.append(Step("extra-data", "extra-data", "host", tuple(keys.scripts_of(hooks, "extra-data"))))
    found.append(Step("pre-install", "pre-install", "target", tuple(keys.scripts_of(hooks, "pre-install")), late=False))
    install = keys.scripts_of(hooks, "install")
    cut = install.index(PACKAGES_SCRIPT) + 1 if PACKAGES_SCRIPT in install else 0
    while cut and install[cut : cut + 1] and install[cut] in WITH_PACKAGES:
        cut += 1
    found.append(Step("packages", "install", "target", tuple(install[:cut]), late=False))
    found.append(Step("install", "install", "target", tuple(install[cut:]), tuple(packages)))
    for phase, where in (
        ("post-install", "target"),
        ("post-root", "host"),
        ("pre-finalise", "host"),
        ("finalise", "target"),
        ("cleanup", "host"),
    ):
        found.append(Step(phase, phase, where, tuple(keys.scripts_of(hooks, phase))))
    needed = ("root", "finalise", "cleanup") if disk else ("root", "cleanup")
    return [step for step in found if step.scripts or step.packages or step.name in needed]


def inputs_of(step: Step, context: Context) -> keys.Inputs:
    """What this step's result depends on."""
    owns_rest = step.name != "packages"
    env = keyed(context.env)
    pairs = [(element.name, element.path) for element in context.elements]
    lists = keys.conditions(pairs) if step.name == "extra-data" else b""
    inputs = keys.phase_inputs(context.hooks, step.phase, step.scripts, env, owns_rest=owns_rest, also=lists)
    if step.name == "root":
        for name, value in context.base.items():
            inputs.add(name, value)
    if step.packages:
        inputs.add("packages", " ".join(step.packages))
    if step.name == "extra-data":
        own = keys.element_inputs(pairs)
        inputs.parts.update({f"element {name}": digest for name, digest in own.parts.items()})
        for name, state in context.sources.items():
            inputs.add(name, state)
        inputs.add("hook names", "\n".join(_names(context.hooks)))
    if _mentions(context.hooks, step, b"BAREMETAL_PACKAGE_DIR"):
        inputs.parts.update(keys.package_inputs(PACKAGE, NODE_ROOMS).parts)
    if _mentions(context.hooks, step, b"baremetal.images.leanrd"):
        inputs.parts.update(keys.package_inputs(PACKAGE, BUILD_ROOMS).parts)
    if step.name == "finalise":
        inputs.add("fstab", context.fstab)
    _add_below(inputs, step, context)
    return inputs


def _add_below(inputs: keys.Inputs, step: Step, context: Context) -> None:
    """The tree this step starts from, as the contents of the layers under it."""
    below = dict(enumerate(context.contents))
    if not step.late and context.extra_index:
        text = b"".join(_texts(context.hooks, step))
        seen = {p: d for p, d in context.extra_index.items() if _may_read(p, text)}
        below[1] = hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()
    inputs.add("tree below", "\n".join(below[i] for i in sorted(below)))


def _may_read(path: str, text: bytes) -> bool:
    """True unless no part of this path is named by the scripts."""
    if "package-installs" in path or "/pkg-map/" in path or path.startswith("hooks/"):
        return True
    parts = [part for part in path.split("/") if part and part not in _COMMON and part not in ("tree", "hooks")]
    return any(re.search(rb"\b" + re.escape(part.encode()) + rb"\b", text) for part in parts)


def extra_index(layer_root: Path) -> dict[str, str]:
    """path -> digest of what the extra-data layer holds."""
    index = {}
    for path, st in walk(layer_root):
        file = Path(path)
        if not (file.is_dir() or (file.parent == layer_root and file.name in ("meta.json", INDEX, MARK))):
            data = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
            digest = hashlib.sha256(f"{st.st_mode} ".encode() + data).hexdigest()[:24]
            index[path[len(str(layer_root)) + 1 :]] = digest
    return index


def _texts(hooks: Path, step: Step) -> list[bytes]:
    files = [hooks / f"{step.phase}.d" / name for name in step.scripts]
    for shared in ("environment.d", "bin"):
        directory = hooks / shared
        if directory.is_dir():
            files += [p for p in sorted(directory.rglob("*")) if p.is_file() and p.suffix != ".pyc"]
    return [path.read_bytes() for path in files]


def _mentions(hooks: Path, step: Step, word: bytes) -> bool:
    return any(word in (hooks / f"{step.phase}.d" / name).read_bytes() for name in step.scripts)


def _names(hooks: Path) -> list[str]:
    return sorted(str(path.relative_to(hooks)) for path in hooks.glob("*.d/*") if path.is_dir())
