"""Every in-band step boots it."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("ramdisk-there", "pre-enroll", "pre-deploy")
async def ramdisk_there(f: Facts) -> Verdict:
    """Every in-band step boots it."""
    found = f.world.site.ramdisk(f.node.arch)
    if found is None:
        return failed(f"no deploy ramdisk for {f.node.arch}", "baremetal image build deploy-ramdisk")
    missing = [n for n in (found.kernel, found.initrd) if f.world.site.artifacts and n not in f.world.site.artifacts]
    if missing:
        return failed(f"{', '.join(missing)} not served", "restart baremetal serve; it composes them at start")
    return passed(f"{found.kernel}, {found.initrd}")
