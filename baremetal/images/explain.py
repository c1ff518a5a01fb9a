"""`image plan`: what a build would run, and which input made it so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from baremetal.images import plan
from baremetal.images.definition import Definition
from baremetal.images.job import DEFAULTS, Job, Options
from baremetal.images.locks import own, scratch
from baremetal.images.results import load_result


def explain(definition: Definition, options: Options = DEFAULTS) -> list[dict[str, object]]:
    """What a build would do and why, step by step; runs nothing."""
    own(options.cache)
    with scratch(options.cache, definition.name) as directory:
        job = Job(definition, options)
        job.prepare(directory)
        rows: list[dict[str, object]] = []
        while planned := job.next_step():
            planned.why = why(job, planned)
            rows.append(row(planned))
            if planned.layer is None:
                rows += _after(job, planned, [str(r["step"]) for r in rows])
                break
            job.accept(planned)
        if not options.until:
            rows.append(_image(job, rows))
        return rows


def _image(job: Job, rows: list[dict[str, object]]) -> dict[str, object]:
    """The last step: the finished tree becomes the image."""
    missing = next((row["step"] for row in rows if not row["cached"]), None)
    found: dict[str, object] = {"step": "image", "scripts": [], "cached": False, "why": f"after {missing}"}
    if missing:
        return found
    root, key = job.options.cache / "images", job.image_key()
    kept = load_result(root / key)
    if kept:
        size = sum(path.stat().st_size for path in kept.files)
        return {**found, "cached": True, "why": "cached", "key": key, "size": size}
    olds = [old for old in (_inputs_of(path) for path in _newest(root)) if old[0] == job.definition.name and old[1]]
    words = _shown(job.image_inputs().changed_from(olds[0][1])) if olds else "never built"
    return {**found, "why": words or "image was lost", "key": key}


def _newest(root: Path) -> list[Path]:
    """What tells about every kept image, the newest first."""
    return sorted(root.glob("*/meta.json"), key=lambda path: -path.stat().st_mtime)


def _inputs_of(path: Path) -> tuple[str, dict[str, str]]:
    try:
        meta = json.loads(path.read_text())
        return str(meta["name"]), dict(meta.get("inputs", {}))
    except (OSError, ValueError, KeyError):
        return "", {}


def _after(job: Job, planned: plan.Planned, told: list[str]) -> list[dict[str, object]]:
    return [
        {"step": s.name, "scripts": list(s.scripts), "cached": False, "why": f"after {planned.step.name}"}
        for s in job.steps()
        if s.name not in told
    ]


def row(planned: plan.Planned) -> dict[str, object]:
    """One step as data: name, scripts, cached, why, key, seconds, CPU seconds, size in bytes."""
    layer = planned.layer
    return {
        "step": planned.step.name,
        "scripts": list(planned.step.scripts),
        "cached": layer is not None,
        "why": planned.why,
        "key": planned.key,
        "seconds": layer.seconds if layer else None,
        "cpu_s": layer.cpu_s if layer else None,
        "size": layer.size if layer else None,
    }


def why(job: Job, planned: plan.Planned) -> str:
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
    return _shown(words) or "layer was lost"


def _shown(words: Sequence[str]) -> str:
    return "; ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")
