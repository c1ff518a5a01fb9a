"""The ramdisk lives in memory."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("memory-enough", "pre-deploy")
async def memory_enough(f: Facts) -> Verdict:
    """The ramdisk lives in memory."""
    found = int(f.node.properties.get("memory_mb") or 0)
    if not found:
        return skipped("memory not known: inspect the node")
    if found < 1024:
        return failed(f"{found} MiB of memory", "the deploy ramdisk needs 1 GiB")
    return passed(f"{found} MiB")
