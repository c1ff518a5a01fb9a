"""One build as far as it is known: elements, layout, environment, and the layers accepted so far.

Decides what the next step and its key are; runs nothing. builder.py walks it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from baremetal.images import (
    assemble,
    disk,
    errors,
    keys,
    layout,
    lockfile,
    mirror,
    packagelists,
    plan,
    sources,
    tools,
    uppers,
    userns,
)
from baremetal.images.definition import Definition
from baremetal.images.elements import (
    Element,
    default_release,
    dib_lib_dir,
    merge_hooks,
    resolve,
    search_path,
    with_defaults,
    without_grub_install,
)
from baremetal.images.environment import lay_out, phase_environment, uuid_for
from baremetal.images.layers import LayerStore, remove
from baremetal.images.prune import DEFAULT_LIMIT

DEFAULT_CACHE = Path("/var/cache/baremetal")
PHASE_TIMEOUT_S = 3600.0
STEADY_BYTES = 16 << 20  # a layer this large belongs to the base of the disk


@dataclass(frozen=True)
class Options:
    """How to build, as opposed to what."""

    cache: Path = DEFAULT_CACHE
    elements_path: tuple[Path, ...] = ()
    refresh: bool = False
    offline: bool = False
    until: str = ""
    shell_on_failure: bool = False
    breaks: tuple[str, ...] = ()  # "before-PHASE", "after-PHASE": a shell there, as disk-image-create's break=
    phase_timeout_s: float = PHASE_TIMEOUT_S
    cache_limit_bytes: int = DEFAULT_LIMIT  # the cache is kept below this after a build; 0: let it grow
    confined: bool = True  # scripts cannot write to the machine's own files
    private: tuple[Path, ...] = ()  # directories of this machine that no script sees into, such as keys
    epoch: str | None = None


DEFAULTS = Options()


class Job:
    """One build: the plan as far as it is known, and the layers under way."""

    def __init__(self, definition: Definition, options: Options) -> None:
        if options.until and options.until not in plan.ORDER:
            raise errors.BadDefinition(f"no phase {options.until!r}", fix=f"one of {', '.join(plan.ORDER)}")
        self.definition = definition
        self.options = options
        self.paths = search_path(options.elements_path)
        names = with_defaults(definition.elements, self.paths)
        self.elements: list[Element] = [without_grub_install(element) for element in resolve(names, self.paths)]
        d = definition
        self.layout = layout.choose(d.name, d.disk, self.elements, d.env, d.arch)
        self.store = LayerStore(options.cache)
        self.warnings: list[str] = []
        self._look_at_mirror()
        locked_epoch, self.pins = lockfile.read(d.lock) if d.lock else (0, {})
        locked = str(locked_epoch) if locked_epoch else None
        asked = options.epoch or d.env.get("SOURCE_DATE_EPOCH") or locked
        self.epoch = mirror.epoch_of(asked, self.seen)
        self.done: list[plan.Planned] = []
        self.ran: dict[str, float] = {}
        self.dir = Path()
        self.context: plan.Context

    def _look_at_mirror(self) -> None:
        release = self.release = self.definition.env.get("DIB_RELEASE") or default_release(self.elements)
        self.mirror = mirror.from_machine({**os.environ, **self.definition.env}, release)
        refresh, offline = self.options.refresh, self.options.offline
        self.seen = mirror.snapshot(self.mirror, release, self.options.cache, refresh=refresh, offline=offline)
        if self.seen.stale:
            self.warnings.append(self.seen.stale)

    # -- preparation ---------------------------------------------------------------------------------------------

    def prepare(self, directory: Path) -> None:
        """Merge the hooks and fix the environment in a scratch directory of this build."""
        self.dir = directory
        lay_out(directory)
        hooks = directory / "hooks.base"
        self.owner = merge_hooks(self.elements, hooks)
        mirror.required(self.mirror, sorted(hooks.glob("root.d/*")))
        _no_block_device_scripts(hooks, self.owner)
        self.warnings += packagelists.warnings(self.elements)
        self.warnings += [
            f"{self.owner.get(path, '?')}: {path} is never run: {why}"
            for path, why in keys.never_run(hooks, plan.ORDER)
        ]
        shutil.copy2(dib_lib_dir() / "dib-run-parts", hooks / "dib-run-parts")
        (hooks / "environment.d").mkdir(exist_ok=True)
        install_type = hooks / "environment.d/11-dib-install-type.bash"
        install_type.write_text('export DIB_DEFAULT_INSTALLTYPE=${DIB_DEFAULT_INSTALLTYPE:-"source"}\n')
        merged = directory / "elements"
        merged.mkdir()
        for element in self.elements:
            (merged / element.name).symlink_to(element.path)
        self.env = phase_environment(
            self.definition,
            self.elements,
            build=directory,
            cache=self.options.cache,
            elements_path=merged,
            mirror=self.mirror,
            epoch=self.epoch,
            layout=self.layout,
            ambient=keys.named_in(self.definition.ambient, [element.path for element in self.elements]),
        )
        if self.pins:
            pinned = directory / "apt-preferences"
            pinned.write_text(lockfile.preferences(self.pins))
            self.env["DIB_APT_PREFERENCES"] = str(pinned)
        (self.options.cache / "dib/locks").mkdir(parents=True, exist_ok=True)
        self.context = plan.Context(
            self.definition.name,
            self.elements,
            hooks,
            self.env,
            self.definition.packages,
            self._base_inputs(),
            self.fstab(),
        )
        if "source-repositories" in {element.name for element in self.elements}:
            refresh, offline = self.options.refresh, self.options.offline
            self.context.sources = sources.states(hooks, self.env, self.options.cache, refresh=refresh, offline=offline)

    def _base_inputs(self) -> dict[str, str]:
        lock = self.definition.lock.read_text() if self.definition.lock else ""
        return {
            "packages of the mirror": lock or self.seen.digest,
            "runner": f"{keys.VERSION} {'root' if userns.initial() else 'user namespace'}",
        }

    def fstab(self) -> str:
        """What /etc/fstab will say; nothing where no disk is made."""
        return self.layout.fstab() if self.definition.kind == "disk" else ""

    # -- planning ------------------------------------------------------------------------------------------------

    def steps(self) -> list[plan.Step]:
        """Every step of this build, done or not."""
        return plan.steps(self.hooks_now(), self.definition.packages, disk=bool(self.fstab()))

    def next_step(self) -> plan.Planned | None:
        """The next step with its key and layer, as far as the layers below are known."""
        names = [planned.step.name for planned in self.done]
        step = next((s for s in self.steps() if s.name not in names), None)
        until = self.options.until
        if step is None or (until and plan.ORDER.index(step.name) > plan.ORDER.index(until)):
            return None
        self.context.hooks = self.hooks_now()
        inputs = plan.inputs_of(step, self.context)
        key = inputs.key()
        layer = None if self.shells(step.phase) else self.store.find(key)
        return plan.Planned(step, key, inputs, layer)

    def shells(self, phase: str) -> str:
        """Where in this phase a shell is wanted: before, after, both or nowhere."""
        return ",".join(when for when in ("before", "after") if f"{when}-{phase}" in self.options.breaks)

    def accept(self, planned: plan.Planned) -> None:
        """Go on above this step's layer."""
        assert planned.layer is not None
        self.done.append(planned)
        self.store.touch(planned.layer)
        self.context.contents.append(planned.layer.content)
        if planned.step.name == "extra-data":
            self.context.extra_index = plan.extra_index(self.store.root / planned.key)

    def restart(self) -> None:
        """Forget what was accepted."""
        self.done, self.context.contents, self.context.extra_index = [], [], {}
        remove(self.dir / "hooks.now")

    def trees(self) -> list[Path]:
        """The accepted layers' trees, topmost first."""
        return [self.store.tree(planned.key) for planned in reversed(self.done)]

    def steady(self) -> int:
        """How many of the lowest layers make the base of the disk: up to the last one of some size."""
        sizes = [planned.layer.size for planned in self.done if planned.layer]
        return max((number for number, size in enumerate(sizes, 1) if size >= STEADY_BYTES), default=1)

    def extra_hooks(self) -> Path | None:
        """The hooks extra-data added, or None."""
        extra = next((p for p in self.done if p.step.name == "extra-data"), None)
        added = self.store.hooks(extra.key) if extra else None
        return added if added and any(added.iterdir()) else None

    def hooks_now(self) -> Path:
        """The hooks as later phases see them: with what extra-data added and removed."""
        base, added = self.dir / "hooks.base", self.extra_hooks()
        if added is None:
            return base
        merged = self.dir / "hooks.now"
        if not merged.exists():
            shutil.copytree(base, merged, symlinks=True)
            uppers.apply(added, merged)
        return merged

    # -- the image -----------------------------------------------------------------------------------------------

    def image_inputs(self) -> keys.Inputs:
        """What the finished image depends on: its layers and everything the disk stage is told."""
        inputs = keys.Inputs()
        inputs.add("tree", "\n".join(self.context.contents))
        for name, value in asdict(self.assembly()).items():
            inputs.add(f"disk: {name}", json.dumps(value, sort_keys=True))
        inputs.add("tools", tools.versions())
        inputs.add("properties", json.dumps(self.definition.properties, sort_keys=True))
        return inputs

    def image_key(self) -> str:
        """Identity of the finished image."""
        return self.image_inputs().key()

    def assembly(self) -> assemble.Spec:
        """What the disk stage is told, without paths."""
        d = self.definition
        ids = disk.Identity(uuid_for(d.name, "disk"), self.epoch)
        return assemble.Spec(
            name=d.name,
            kind=d.kind,
            build="",
            lowers=[],
            out="",
            formats=list(d.formats) if d.kind != "ramdisk" else [],
            identity=asdict(ids),
            layout=asdict(self.layout),
            size_bytes=d.disk.size_bytes,
            extra_bytes=d.disk.extra_bytes,
            cluster_bytes=d.disk.cluster_bytes,
            compression=d.disk.compression,
        )


def _no_block_device_scripts(hooks: Path, owner: Mapping[str, str]) -> None:
    """block-device.d makes the disk itself, with loop devices and mounts: the original's business."""
    scripts = keys.scripts_of(hooks, "block-device")
    if scripts:
        where = f"block-device.d/{scripts[0]}"
        raise errors.BadElement(
            f"{owner.get(where, 'an element')}: {where} makes a disk of its own, which is not done here",
            fix="--engine dib does it; or describe the disk in block-device-default.yaml",
        )
