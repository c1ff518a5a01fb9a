"""Builds an image from its definition: resolve, run the phases whose layer is missing, assemble.

A build with nothing to do returns the stored image after hashing its inputs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from baremetal.errors import BaremetalError
from baremetal.images import (
    assemble,
    disk,
    errors,
    keys,
    layout,
    lockfile,
    mirror,
    plan,
    provenance,
    runner,
    stage,
    userns,
)
from baremetal.images.definition import Definition
from baremetal.images.elements import Element, dib_lib_dir, merge_hooks, resolve, search_path, with_defaults
from baremetal.images.environment import keyed, lay_out, phase_environment, uuid_for
from baremetal.images.errors import BuildFailed
from baremetal.images.layers import Layer, LayerStore, remove
from baremetal.version import __version__

DEFAULT_CACHE = Path("/var/cache/baremetal")
PHASE_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Options:
    """How to build, as opposed to what."""

    cache: Path = DEFAULT_CACHE
    elements_path: tuple[Path, ...] = ()
    refresh: bool = False
    offline: bool = False
    until: str = ""
    shell_on_failure: bool = False
    phase_timeout_s: float = PHASE_TIMEOUT_S
    epoch: str | None = None


@dataclass
class BuildResult:
    """What a build gave. `path` is the main file (qcow2, or the ramdisk's directory)."""

    name: str
    id: str
    kind: str
    path: Path
    directory: Path
    cached: bool
    files: list[Path] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    log_dir: Path | None = None


Progress = Callable[[str, str, float], None]
"""Called with (step, script, fraction of the whole)."""


def _quiet(step: str, script: str, fraction: float) -> None:
    """No progress wanted."""


class Build:
    """One build: the plan as far as it is known, and the layers under way."""

    def __init__(self, definition: Definition, options: Options, progress: Progress = _quiet) -> None:
        if options.until and options.until not in plan.ORDER:
            raise errors.BadDefinition(f"no phase {options.until!r}", fix=f"one of {', '.join(plan.ORDER)}")
        self.definition = definition
        self.options = options
        self.progress = progress
        self.paths = search_path(options.elements_path)
        names = with_defaults(definition.elements, self.paths)
        self.elements: list[Element] = resolve(names, self.paths)
        d = definition
        self.layout = layout.choose(d.name, d.disk.layout, self.elements, d.env, d.disk.root_label, d.arch)
        self.store = LayerStore(options.cache)
        self.warnings: list[str] = []
        env = {**os.environ, **definition.env}
        self.mirror = mirror.from_machine(env)
        release = definition.env.get("DIB_RELEASE", "bookworm")
        self.seen = mirror.snapshot(
            self.mirror, release, options.cache, refresh=options.refresh, offline=options.offline
        )
        if self.seen.stale:
            self.warnings.append(self.seen.stale)
        locked_epoch, self.pins = lockfile.read(definition.lock) if definition.lock else (0, {})
        asked = (
            options.epoch or definition.env.get("SOURCE_DATE_EPOCH") or (str(locked_epoch) if locked_epoch else None)
        )
        self.epoch = mirror.epoch_of(asked, self.seen)
        self.done: list[plan.Planned] = []
        self.dir = Path()
        self.context: plan.Context

    # -- preparation ---------------------------------------------------------------------------------------------

    def prepare(self, directory: Path) -> None:
        """Merge the hooks and fix the environment in a scratch directory of this build."""
        self.dir = directory
        lay_out(directory)
        hooks = directory / "hooks.base"
        self.owner = merge_hooks(self.elements, hooks)
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
        )
        if self.pins:
            pinned = directory / "apt-preferences"
            pinned.write_text(lockfile.preferences(self.pins))
            self.env["DIB_APT_PREFERENCES"] = str(pinned)
        (self.options.cache / "dib/locks").mkdir(parents=True, exist_ok=True)
        self.context = plan.Context(
            self.definition.name, self.elements, hooks, self.env, self.definition.packages, self._base_inputs()
        )

    def _base_inputs(self) -> dict[str, str]:
        lock = self.definition.lock.read_text() if self.definition.lock else ""
        return {
            "packages of the mirror": lock or self.seen.digest,
            "runner": f"{keys.VERSION} {'root' if userns.initial() else 'user namespace'}",
            "fstab": self._fstab(),
        }

    def _fstab(self) -> str:
        return self.layout.fstab() if self.definition.kind == "disk" else ""

    # -- planning ------------------------------------------------------------------------------------------------

    def next_step(self) -> plan.Planned | None:
        """The next step with its key and layer, as far as the layers below are known."""
        all_steps = plan.steps(self._hooks_now(), self.definition.packages)
        names = [planned.step.name for planned in self.done]
        step = next((s for s in all_steps if s.name not in names), None)
        until = self.options.until
        if step is None or (until and plan.ORDER.index(step.name) > plan.ORDER.index(until)):
            return None
        self.context.hooks = self._hooks_now()
        inputs = plan.inputs_of(step, self.context)
        key = inputs.key()
        return plan.Planned(step, key, inputs, self.store.find(key))

    def accept(self, planned: plan.Planned) -> None:
        """Go on above this step's layer."""
        assert planned.layer is not None
        self.done.append(planned)
        self.store.touch(planned.layer)
        self.context.contents.append(planned.layer.content)
        if planned.step.name == "extra-data":
            self.context.extra_index = plan.extra_index(self.store.root / planned.key)

    def _hooks_now(self) -> Path:
        """The hooks as later phases see them: what extra-data added is copied over."""
        extra = next((p for p in self.done if p.step.name == "extra-data"), None)
        base = self.dir / "hooks.base"
        if extra is None:
            return base
        added = self.store.hooks(extra.key)
        if not any(added.iterdir()):
            return base
        merged = self.dir / "hooks.now"
        if not merged.exists():
            shutil.copytree(base, merged, symlinks=True)
            shutil.copytree(added, merged, symlinks=True, dirs_exist_ok=True)
        return merged

    def image_key(self) -> str:
        """Identity of the finished image: its layers and everything the disk stage is told."""
        inputs = keys.Inputs()
        inputs.add("tree", "\n".join(self.context.contents))
        inputs.add("disk", json.dumps(asdict(self._assembly()), sort_keys=True))
        inputs.add("tools", tool_versions())
        inputs.add("properties", json.dumps(self.definition.properties, sort_keys=True))
        return inputs.key()

    def _assembly(self) -> assemble.Spec:
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

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, planned: plan.Planned, logs: Path) -> None:
        """Run one step into a new layer."""
        with self.store.draft() as draft:
            spec = self._stage_spec(planned.step, draft)
            log = logs / f"{len(self.done):02d}-{planned.step.name}.log"

            def started(phase: str, script: str) -> None:
                self.progress(planned.step.name, script, len(self.done) / 10)

            outcome = runner.run_stage(
                spec,
                log=log,
                timeout_s=self.options.phase_timeout_s,
                progress=started,
                owner=lambda path: self.owner.get(path, ""),
            )
            for words in outcome.left:
                self.warnings.append(f"{planned.step.name}: a script left a process running, it was ended: {words}")
            layer = Layer(planned.key, planned.step.name, "", "", planned.inputs.parts, image=self.definition.name)
            layer.binds = outcome.binds
            layer.scripts = [[script.name, round(script.seconds, 2)] for script in outcome.scripts]
            layer.seconds, layer.cpu_s = round(outcome.seconds, 2), round(outcome.cpu_s, 2)
            planned.layer = self.store.keep(draft, layer)

    def _stage_spec(self, step: plan.Step, draft: Path) -> stage.Spec:
        extra = next((p for p in self.done if p.step.name == "extra-data"), None)
        hook_lowers = [str(self.dir / "hooks.base")]
        if extra and any(self.store.hooks(extra.key).iterdir()):
            hook_lowers.insert(0, str(self.store.hooks(extra.key)))
        writes_hooks = step.name == "extra-data"
        last = self.done[-1].layer if self.done else None
        return stage.Spec(
            phase=step.phase,
            where=step.where,
            build=str(self.dir),
            lowers=[str(self.store.tree(p.key)) for p in reversed(self.done)],
            upper=str(draft / "tree"),
            work=str(draft / "work"),
            hook_lowers=hook_lowers,
            hook_upper=str(draft / "hooks") if writes_hooks else "",
            hook_work=str(draft / "hookwork") if writes_hooks else "",
            scripts=list(step.scripts),
            env=self.env,
            binds=last.binds if last else [],
            cache=str(self.options.cache / "dib"),
            packages=list(step.packages),
            fstab=self._fstab() if step.name == "finalise" else "",
            system=step.system,
            shell="failure" if self.options.shell_on_failure else "",
        )

    def finish(self, out: Path, logs: Path) -> None:
        """Assemble the image from the finished layers into `out`."""
        spec = self._assembly()
        spec.build, spec.out = str(self.dir), str(out)
        spec.lowers = [str(self.store.tree(p.key)) for p in reversed(self.done)]
        spec_file = logs / "assemble.spec.json"
        spec_file.write_text(json.dumps(asdict(spec)))
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*runner.namespace(), sys.executable, "-m", "baremetal.images.assemble", str(spec_file)]
        with open(logs / "assemble.log", "wb") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env, check=False)
        if done.returncode != 0:
            raise _assembly_error(out, logs / "assemble.log", done.returncode)
        spec_file.unlink()

    def hold_to_lock(self, out: Path) -> None:
        """BuildFailed when the tree holds other packages than the lock file names."""
        if not self.pins:
            return
        installed = {p["name"]: p["version"] for p in json.loads((out / "packages.json").read_text())}
        words = lockfile.departures(self.pins, installed)
        if words:
            raise BuildFailed(
                f"{self.definition.name}: not what its lock file says ({len(words)} packages)",
                detail="\n".join(words[:20]),
                fix=f"the mirror may have dropped versions: point it at a snapshot, or remove {self.definition.lock}",
            )

    def provenance(self, out: Path) -> str:
        """Inputs and outputs of this build as one statement."""
        subjects = {}
        for path in sorted(out.iterdir()):
            if path.suffix not in (".json", ".txt"):
                with open(path, "rb") as file:
                    subjects[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        elements = [(e.name, keys.element_digest(e.path)) for e in self.elements]
        return provenance.statement(
            subjects=subjects,
            definition=self.definition.name,
            elements=elements,
            layers=[(p.step.name, p.key) for p in self.done],
            parameters={"env": dict(sorted(self.definition.env.items())), "arch": self.definition.arch},
            mirror=self.seen.digest,
            epoch=self.epoch,
        )


def build(definition: Definition, options: Options = Options(), progress: Progress = _quiet) -> BuildResult:
    """Build the image, or find it already built; raises BuildFailed with what went wrong and where."""
    began, cpu = time.monotonic(), _cpu_s()
    options.cache.mkdir(parents=True, exist_ok=True)
    with locked(options.cache, definition.name), scratch(options.cache, definition.name) as directory:
        job = Build(definition, options, progress)
        job.store.sweep()
        job.prepare(directory)
        logs = options.cache / "logs" / definition.name
        result = _known(job)
        if result is None:
            remove(logs)
            logs.mkdir(parents=True)
            _restart(job)
            with apt_lock(options.cache):
                _run_missing(job, logs)
            result = _stored(job, logs)
        result.seconds, result.cpu_s = time.monotonic() - began, _cpu_s() - cpu
        result.warnings = job.warnings
        return result


def explain(definition: Definition, options: Options = Options()) -> list[dict[str, object]]:
    """What a build would do and why, step by step; runs nothing."""
    options.cache.mkdir(parents=True, exist_ok=True)
    with scratch(options.cache, definition.name) as directory:
        job = Build(definition, options)
        job.prepare(directory)
        rows: list[dict[str, object]] = []
        while planned := job.next_step():
            planned.why = _why(job, planned)
            rows.append(_row(planned))
            if planned.layer is None:
                rows += [
                    {"step": s.name, "scripts": list(s.scripts), "cached": False, "why": f"after {planned.step.name}"}
                    for s in plan.steps(job._hooks_now(), definition.packages)
                    if s.name not in [r["step"] for r in rows]
                ]
                break
            job.accept(planned)
        return rows


def _row(planned: plan.Planned) -> dict[str, object]:
    layer = planned.layer
    return {
        "step": planned.step.name,
        "scripts": list(planned.step.scripts),
        "cached": layer is not None,
        "why": planned.why,
        "key": planned.key,
        "seconds": layer.seconds if layer else None,
        "size": layer.size if layer else None,
    }


def _why(job: Build, planned: plan.Planned) -> str:
    """In words: which input differs from the last layer of this step."""
    if planned.layer:
        return f"cached, made in {planned.layer.seconds:.1f} s"
    older = [
        layer for layer in job.store.list() if layer.phase == planned.step.name and layer.image == job.definition.name
    ]
    if not older:
        return "never built"
    newest = max(older, key=lambda layer: layer.made)
    words = planned.inputs.changed_from(newest.inputs)
    shown = "; ".join(words[:4])
    return shown + (f" and {len(words) - 4} more" if len(words) > 4 else "") or "layer was lost"


def _known(job: Build) -> BuildResult | None:
    """The stored image when every step's key is known and the image is whole."""
    while planned := job.next_step():
        if planned.layer is None:
            return None
        job.accept(planned)
    if job.options.until:
        return None
    directory = job.options.cache / "images" / job.image_key()
    return load_result(directory)


def _restart(job: Build) -> None:
    """Start over with layers whose files were checked; a damaged one is dropped and everything above goes with it."""
    job.done, job.context.contents, job.context.extra_index = [], [], {}
    remove(job.dir / "hooks.now")
    while planned := job.next_step():
        if planned.layer is None:
            return
        if not job.store.sound(planned.layer):
            job.warnings.append(f"cached layer {planned.step.name} ({planned.key}) was damaged; built again")
            return
        job.accept(planned)


def _run_missing(job: Build, logs: Path) -> None:
    while planned := job.next_step():
        if planned.layer is None or not job.store.sound(planned.layer):
            job.progress(planned.step.name, "", len(job.done) / 10)
            job.run(planned, logs)
        job.accept(planned)


def _stored(job: Build, logs: Path) -> BuildResult:
    """Assemble and keep the image under its key."""
    root = job.options.cache / "images"
    root.mkdir(exist_ok=True)
    key = job.image_key()
    if job.options.until:
        return BuildResult(job.definition.name, key, "partial", logs, logs, cached=False, log_dir=logs)
    job.progress("assemble", "", 0.95)
    target, draft = root / key, root / f".draft-{os.getpid()}"
    remove(draft)
    draft.mkdir()
    try:
        job.finish(draft, logs)
        job.hold_to_lock(draft)
        (draft / "provenance.json").write_text(job.provenance(draft))
        meta = {
            "name": job.definition.name,
            "id": key,
            "kind": job.definition.kind,
            "files": {p.name: p.stat().st_size for p in sorted(draft.iterdir()) if p.is_file()},
            "steps": [_row(planned) | {"inputs": planned.inputs.parts} for planned in job.done],
            "properties": {**job.definition.properties, "elements": " ".join(e.name for e in job.elements)},
            "arch": job.definition.arch,
            "epoch": job.epoch,
            "mirror": job.seen.digest,
            "env": keyed(job.definition.env),
            "builder": __version__,
            "tools": tool_versions(),
        }
        (draft / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        remove(target)
        os.rename(draft, target)
    finally:
        remove(draft)
    result = load_result(target)
    assert result is not None
    result.cached, result.log_dir = False, logs
    return result


def load_result(directory: Path) -> BuildResult | None:
    """A stored build, or None when it is not there or files are missing or cut."""
    try:
        meta = json.loads((directory / "meta.json").read_text())
        for name, size in meta["files"].items():
            if (directory / name).stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError):
        return None
    name, kind = meta["name"], meta["kind"]
    images = [directory / f for f in meta["files"] if not f.endswith((".json", ".txt"))]
    main = directory if kind == "ramdisk" or not images else _main_file(images)
    return BuildResult(name, meta["id"], kind, main, directory, cached=True, files=images, steps=meta["steps"])


def _main_file(images: Sequence[Path]) -> Path:
    order = (".qcow2", ".raw", ".zst", ".squashfs", ".tar", ".tgz")
    return min(images, key=lambda path: order.index(path.suffix) if path.suffix in order else 99)


def _assembly_error(out: Path, log: Path, code: int) -> BaremetalError:
    try:
        said = json.loads((out / "error.json").read_text())
        kind = getattr(errors, said["type"], BuildFailed)
        error: BaremetalError = kind(said["brief"], detail=said["detail"], fix=said["fix"])
        return error
    except (OSError, ValueError, KeyError):
        tail = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        return BuildFailed(f"assemble failed (exit {code})", detail="\n".join(tail), fix=f"see {log}")


def tool_versions() -> str:
    """What decides the bytes of a disk besides its tree; cheap to read: sizes and dates of the tools."""
    words = [__version__]
    for name in ("mke2fs", "debugfs", "sgdisk", "mformat", "grub-mkimage", "qemu-img", "zstd"):
        path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        words.append(f"{name}={hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}" if path else f"{name}=none")
    return " ".join(words)


@contextlib.contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """One build of an image at a time; the second waits and finds it done."""
    with _flock(cache / "locks" / f"{name}.lock"):
        yield


@contextlib.contextmanager
def apt_lock(cache: Path) -> Iterator[None]:
    """Builds share one package cache; apt allows one writer."""
    with _flock(cache / "locks" / ".phases.lock"):
        yield


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(cache: Path, name: str) -> Iterator[Path]:
    """A directory for one build; what a killed build left is cleared first."""
    root = cache / "work"
    root.mkdir(parents=True, exist_ok=True)
    for old in root.glob("*"):
        pid = old.name.rpartition(".")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            remove(old)
    path = root / f"{name}.{os.getpid()}"
    remove(path)
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
