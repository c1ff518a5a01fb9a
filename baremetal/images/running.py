"""Runs the steps of a job: a phase into a new layer, the finished layers into an image."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from baremetal.errors import BaremetalError
from baremetal.images import archive, errors, keys, lockfile, plan, provenance, runner, stage
from baremetal.images.environment import told
from baremetal.images.errors import BuildFailed
from baremetal.images.job import Job
from baremetal.images.layers import Layer

Progress = Callable[[str, str, float], None]
"""Called with (step, script, fraction of the whole)."""


def run_step(job: Job, planned: plan.Planned, logs: Path, progress: Progress) -> None:
    """Run one step into a new layer."""
    d = job.definition
    if planned.step.name == "root" and d.lock and not job.options.offline:
        archive.require(d.lock, d.name, job.mirror, job.release, d.arch)
    with job.store.draft() as draft:
        log = logs / f"{len(job.done):02d}-{planned.step.name}.log"

        def started(phase: str, script: str) -> None:
            progress(planned.step.name, script, len(job.done) / 10)

        try:
            outcome = runner.run_stage(
                _stage_spec(job, planned.step, draft),
                log=log,
                timeout_s=job.options.phase_timeout_s,
                progress=started,
                owner=lambda path: job.owner.get(path, ""),
            )
        except BuildFailed as exc:
            if job.seen.stale and not job.options.offline:
                raise BuildFailed(exc.brief, detail=f"{exc.detail}\n{job.seen.stale}", fix=exc.fix) from exc
            raise
        for words in outcome.left:
            job.warnings.append(f"{planned.step.name}: a script left a process running, it was ended: {words}")
        layer = Layer(planned.key, planned.step.name, "", "", planned.inputs.parts, image=job.definition.name)
        layer.binds = outcome.binds
        layer.scripts = [[script.name, round(script.seconds, 2)] for script in outcome.scripts]
        layer.seconds, layer.cpu_s = round(outcome.seconds, 2), round(outcome.cpu_s, 2)
        planned.layer = job.store.keep(draft, layer)
        job.ran[planned.step.name] = layer.seconds


def _stage_spec(job: Job, step: plan.Step, draft: Path) -> stage.Spec:
    added = job.extra_hooks()
    writes_hooks = step.name == "extra-data"
    last = job.done[-1].layer if job.done else None
    return stage.Spec(
        phase=step.phase,
        where=step.where,
        build=str(job.dir),
        lowers=[str(tree) for tree in job.trees()],
        upper=str(draft / "tree"),
        work=str(draft / "work"),
        hook_lowers=[*([str(added)] if added else []), str(job.dir / "hooks.base")],
        hook_upper=str(draft / "hooks") if writes_hooks else "",
        hook_work=str(draft / "hookwork") if writes_hooks else "",
        out=str(draft / "out"),
        scripts=list(step.scripts),
        env=job.env,
        binds=last.binds if last else [],
        cache=str(job.options.cache / "dib"),
        packages=list(step.packages),
        fstab=job.fstab() if step.name == "finalise" else "",
        system=step.system,
        confined=job.options.confined,
        private=[str(path) for path in job.options.private],
        shell=job.shells(step.phase) + (",failure" if job.options.shell_on_failure else ""),
    )


def assemble_image(job: Job, out: Path, logs: Path) -> None:
    """Assemble the image from the finished layers into `out`."""
    spec = job.assembly()
    spec.build, spec.out = str(job.dir), str(out)
    spec.lowers = [str(tree) for tree in job.trees()]
    spec.steady, spec.bases = job.steady(), str(job.options.cache / "bases")
    spec_file = logs / "assemble.spec.json"
    spec_file.write_text(json.dumps(asdict(spec)))
    command = [*runner.namespace(), sys.executable, "-m", "baremetal.images.assemble", str(spec_file)]
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, env=runner.environment(), preexec_fn=runner.die_with_parent, check=False
    )
    job.ran["assemble"] = round(time.monotonic() - began, 2)
    said = (done.stderr + done.stdout).decode(errors="replace")
    with contextlib.suppress(OSError):  # the disk may be full
        (logs / "assemble.log").write_text(said)
    if done.returncode != 0:
        raise _assembly_error(said, logs / "assemble.log", done.returncode)
    spec_file.unlink()


def _assembly_error(said: str, log: Path, code: int) -> BaremetalError:
    """The error assemble.py wrote as its last line, or what it died with."""
    lines = said.splitlines()
    try:
        told = json.loads(lines[-1])
        kind = getattr(errors, told["type"], BuildFailed)
        error: BaremetalError = kind(told["brief"], detail=told["detail"], fix=told["fix"])
        return error
    except (IndexError, ValueError, KeyError, TypeError):
        return BuildFailed(f"assemble failed (exit {code})", detail="\n".join(lines[-12:]), fix=f"see {log}")


def left_beside(job: Job, out: Path) -> None:
    """What elements leave beside an image, as `baremetal` does NAME.vmlinuz and `manifests` NAME.d."""
    for planned in job.done:
        place = job.store.out(planned.key)
        for path in sorted(place.glob(f"{job.definition.name}.*")) if place.is_dir() else ():
            if path.is_dir():
                shutil.copytree(path, out / path.name, symlinks=True, dirs_exist_ok=True)
            elif not (out / path.name).exists():
                shutil.copy2(path, out / path.name)


def hold_to_lock(job: Job, out: Path) -> None:
    """BuildFailed when the tree holds other packages than the lock file names."""
    if not job.pins:
        return
    installed = {p["name"]: p["version"] for p in json.loads((out / "packages.json").read_text())}
    words = lockfile.departures(job.pins, installed)
    if job.definition.lock:
        words += lockfile.other_files(job.definition.lock, job.options.cache)
    if words:
        raise BuildFailed(
            f"{job.definition.name}: not what its lock file says ({len(words)} packages)",
            detail="\n".join(words[:20]),
            fix=f"the mirror may have dropped versions: point it at a snapshot, or remove {job.definition.lock}",
        )


def statement(job: Job, digests: Mapping[str, str]) -> str:
    """Inputs and outputs of this build as one provenance statement; `digests`: of all its files."""
    subjects = {name: digest for name, digest in digests.items() if not name.endswith((".json", ".txt"))}
    elements = [(e.name, keys.element_digest(e.path)) for e in job.elements]
    return provenance.statement(
        subjects=subjects,
        definition=job.definition.name,
        elements=elements,
        layers=[(p.step.name, p.key) for p in job.done],
        parameters={"env": told(job.definition.env), "arch": job.definition.arch},
        mirror=job.seen.digest,
        epoch=job.epoch,
    )
