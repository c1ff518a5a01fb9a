"""The newest metadata is applied."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("configured", "post-deploy")
async def configured(f: Facts) -> Verdict:
    """The newest metadata is applied."""
    told = f.node.config
    if not told:
        return skipped("no configuration report: the image has no agent of ours, or it was not heard yet")
    if told.get("outcome") not in ("applied", "unchanged"):
        return failed(f"last report: {told.get('outcome')}", f"baremetal node events {f.node.name}")
    if f.generation is not None and told.get("generation") != f.generation:
        return failed(
            f"applied generation {told.get('generation')}, wanted {f.generation}", "wait, or look at its agent's log"
        )
    return passed(f"generation {told.get('generation')}")
