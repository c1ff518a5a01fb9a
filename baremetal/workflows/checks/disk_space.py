"""The database must be able to grow."""

from __future__ import annotations

import shutil

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped

FREE_BYTES = 1024**3


@check("disk-space", "pre-upgrade", "pre-deploy")
async def disk_space(f: Facts) -> Verdict:
    """The database must be able to grow."""
    path = f.world.store.path
    if path is None:
        return skipped("the database is not a file")
    free = shutil.disk_usage(path.parent).free
    if free < FREE_BYTES:
        return failed(f"{free / 1e6:.0f} MB free beside the database", "free some space there")
    return passed(f"{free / 1e9:.1f} GB free")
