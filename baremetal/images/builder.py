"""Builds an image from its definition: the steps whose layer is missing, then the disk.

A build with nothing to do returns the stored image after hashing its inputs.
job.py decides, running.py runs, this walks from one to the other.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

from baremetal.images import drafts, packagefiles, rereading
from baremetal.images.definition import Definition
from baremetal.images.drafts import remove
from baremetal.images.environment import keyed, told
from baremetal.images.errors import BuildFailed, NoSpace
from baremetal.images.explain import explain as explain
from baremetal.images.explain import row
from baremetal.images.job import DEFAULTS, Job
from baremetal.images.job import Options as Options
from baremetal.images.lastwords import printable
from baremetal.images.locks import apt_lock, building, locked, own, scratch
from baremetal.images.prune import prune, totals
from baremetal.images.results import BuildResult as BuildResult
from baremetal.images.results import described, digests
from baremetal.images.results import load_result as load_result
from baremetal.images.running import Progress, assemble_image, hold_to_lock, left_beside, run_step, statement
from baremetal.images.sizes import show_size
from baremetal.images.tools import versions
from baremetal.version import __version__

FULL = (errno.ENOSPC, errno.EDQUOT)
KEEP_S = 3600.0  # what was used in the last hour is not pruned after a build


def _quiet(step: str, script: str, fraction: float) -> None:
    """No progress wanted."""


def build(definition: Definition, options: Options = DEFAULTS, progress: Progress = _quiet) -> BuildResult:
    """Build the image, or find it already built; raises BuildFailed with what went wrong and where."""
    try:
        own(options.cache)
        with building(options.cache, lambda what: progress(what, "", 0.0)):
            result = _build(definition, options, progress)
        if not result.cached and options.cache_limit_bytes:
            prune(options.cache, options.cache_limit_bytes, keep_s=KEEP_S)
        return result
    except OSError as exc:
        if exc.errno in FULL:
            raise _full(definition, options, str(exc)) from exc
        raise _unkept(definition, exc) from exc


def _full(definition: Definition, options: Options, said: str, step: str = "") -> NoSpace:
    takes, disk = sum(totals(options.cache).values()), shutil.disk_usage(options.cache)
    fix = "use another --cache-dir on a larger disk"
    if takes > disk.total // 4:
        fix = f"make room: baremetal image cache prune --limit {takes // 2 >> 20}MiB, or {fix}"
    return NoSpace(
        f"{definition.name}: no space left in {options.cache}{f', in phase {step}' if step else ''}",
        detail=f"{said}\nthe disk holds {show_size(disk.total)}, this cache takes {show_size(takes)} of it",
        fix=fix,
    )


def _unkept(definition: Definition, exc: OSError) -> BuildFailed:
    """What a tree holds can be more than this machine's tools take: a path of 4,096 bytes, for one."""
    place = printable(os.fsdecode(exc.filename)) if exc.filename else ""
    return BuildFailed(f"{definition.name}: {exc.strerror or exc}", detail=place, fix="BAREMETAL_DEBUG=1 shows where")


def _build(definition: Definition, options: Options, progress: Progress) -> BuildResult:
    began, cpu = time.monotonic(), _cpu_s()

    def waiting(what: str) -> None:
        progress(what, "", 0.0)

    with locked(options.cache, definition.name, waiting), scratch(options.cache, definition.name) as directory:
        job = Job(definition, options)
        for kept in ("layers", "images", "bases"):
            drafts.sweep(options.cache / kept)
        job.prepare(directory)
        logs = options.cache / "logs" / definition.name
        result = _known(job)
        if result is None:
            remove(logs)
            logs.mkdir(parents=True, mode=0o700)  # scripts may print what variables hold
            _restart(job)
            with apt_lock(options.cache, waiting):
                _run_all(job, logs, progress)
            result = _stored(job, logs, progress)
        result.seconds, result.cpu_s = time.monotonic() - began, _cpu_s() - cpu
        result.warnings, result.ran = job.warnings, job.ran
        return result


def _known(job: Job) -> BuildResult | None:
    """The stored image when every step's key is known and the image is whole."""
    while planned := job.next_step():
        if planned.layer is None:
            return None
        job.accept(planned)
    if job.options.until:
        return None
    kept = job.options.cache / "images" / job.image_key()
    result = load_result(kept)
    if result is None and kept.exists():
        job.warnings.append("the image that was kept is damaged; made again")
    return result


def _restart(job: Job) -> None:
    """Start over with layers whose files were checked; a damaged one is dropped and everything above goes with it."""
    job.restart()
    while planned := job.next_step():
        if planned.layer is None:
            return
        if not job.store.sound(planned.layer):
            job.warnings.append(f"cached layer {planned.step.name} ({planned.key}) was damaged; built again")
            return
        job.accept(planned)


def _run_all(job: Job, logs: Path, progress: Progress) -> None:
    """What is missing, with package files that are as they were fetched; new ones are noted."""
    if job.next_step() is None:
        return
    for name in packagefiles.look(job.options.cache):
        job.warnings.append(f"cached package {name} was damaged; fetched again")
    try:
        _run_missing(job, logs, progress)
    finally:
        packagefiles.look(job.options.cache)


def _run_missing(job: Job, logs: Path, progress: Progress) -> None:
    while planned := job.next_step():
        if planned.layer is None or not job.store.sound(planned.layer):
            progress(planned.step.name, "", len(job.done) / 10)
            try:
                run_step(job, planned, logs, progress)
            except OSError as exc:
                if exc.errno in FULL:
                    raise _full(job.definition, job.options, str(exc), planned.step.name) from exc
                raise
        job.accept(planned)


def _stored(job: Job, logs: Path, progress: Progress) -> BuildResult:
    """Assemble and keep the image under its key."""
    root = job.options.cache / "images"
    root.mkdir(exist_ok=True)
    key = job.image_key()
    if job.options.until:
        return BuildResult(job.definition.name, key, "partial", logs, logs, cached=False, log_dir=logs)
    progress("assemble", "", 0.95)
    target = root / key
    with drafts.draft(root) as draft:
        try:
            assemble_image(job, draft, logs)
        except NoSpace as exc:
            raise _full(job.definition, job.options, exc.detail, "assemble") from exc
        left_beside(job, draft)
        hold_to_lock(job, draft)
        taken = digests(draft)
        (draft / "provenance.json").write_text(statement(job, taken))
        meta = {**_meta(job, key), **described(draft, taken)}
        (draft / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        rereading.was_read(draft)
        remove(target)
        os.rename(draft, target)
    result = load_result(target)
    assert result is not None
    result.cached, result.log_dir = False, logs
    return result


def _meta(job: Job, key: str) -> dict[str, object]:
    """What is kept about a build."""
    d = job.definition
    return {
        "name": d.name,
        "id": key,
        "kind": d.kind,
        "steps": [row(planned) | {"inputs": planned.inputs.parts} for planned in job.done],
        "properties": {**d.properties, "elements": " ".join(e.name for e in job.elements)},
        "inputs": job.image_inputs().parts,
        "arch": d.arch,
        "epoch": job.epoch,
        "mirror": job.seen.digest,
        "env": told(keyed(d.env)),
        "builder": __version__,
        "tools": versions(),
    }


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
