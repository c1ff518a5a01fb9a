"""Pages, references, secrets."""

from __future__ import annotations

from baremetal.store import care
from baremetal.workflows import judgement
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("database-sound", "pre-upgrade")
async def database_sound(f: Facts) -> Verdict:
    """Pages, references, secrets."""
    problems = await f.world.store.fetch(
        lambda c: [*care.check(c, f.world.operator, f.world.metadata), *judgement.unusable(c)]
    )
    if problems:
        return failed(f"{len(problems)} problems, first: {problems[0]}", "baremetal db check")
    return passed("sound")
