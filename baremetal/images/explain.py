"""`image plan`: what a build would run, and which input made it so."""

from __future__ import annotations

from baremetal.images import plan
from baremetal.images.definition import Definition
from baremetal.images.job import DEFAULTS, Job, Options
from baremetal.images.locks import own, scratch


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
        return rows


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
    shown = "; ".join(words[:4])
    return shown + (f" and {len(words) - 4} more" if len(words) > 4 else "") or "layer was lost"
