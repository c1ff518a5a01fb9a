"""Is the machine as a deploy needs it? BMC, NICs, disks, firmware mode."""

from __future__ import annotations

from baremetal.model.node import Power
from baremetal.workflows import inspection
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("bmc-answers", "pre-enroll", "pre-deploy")
async def bmc_answers(f: Facts) -> Verdict:
    """Address, user and password are right; asked now."""
    if not f.node.bmc_url:
        return failed("no BMC address", f"baremetal node set {f.node.name} --bmc ipmi://user@address")
    who = await f.world.driver(f.node).identify()
    return passed(f"{who.vendor or 'unknown vendor'} {who.product or ''}, firmware {who.firmware or 'unknown'}")


@check("bmc-boot-override", "pre-enroll", "pre-deploy")
async def bmc_boot_override(f: Facts) -> Verdict:
    """The next boot can be chosen."""
    plan = await f.world.driver(f.node).get_boot()
    return passed(f"readable; now {plan.device}{', once' if plan.once else ''}")


@check("power-known", "pre-deploy", "post-deploy")
async def power_known(f: Facts) -> Verdict:
    """An unknown power state hides a node from allocation."""
    if f.node.power is Power.UNKNOWN:
        return failed("power state unknown", f"baremetal bmc power {f.node.bmc_url}; then manage the node again")
    return passed(f"power is {f.node.power}")


@check("ports-known", "pre-enroll", "pre-deploy")
async def ports_known(f: Facts) -> Verdict:
    """Without a MAC its network boot is not recognised."""
    bootable = [port.mac for port in f.ports if port.pxe_enabled]
    if bootable:
        return passed(", ".join(bootable))
    if f.node.system_uuid:
        return passed("no MAC, but its UUID is known: recognised by that where firmware sends it")
    return failed("no MAC address known", f"baremetal node set {f.node.name} --mac 52:54:00:…")


@check("inspected", "pre-deploy")
async def inspected(f: Facts) -> Verdict:
    """Cleaning and root device choice rest on the inventory."""
    if f.inventory is None:
        return failed("never inspected", f"baremetal node inspect {f.node.name}")
    return passed(inspection.summary(f.inventory))


@check("disk-large-enough", "pre-deploy")
async def disk_large_enough(f: Facts) -> Verdict:
    """The image fits the largest local disk."""
    if f.inventory is None or f.image is None or f.image.manifest is None:
        return skipped("needs an inventory and an image (--image)")
    need = max(f.image.manifest.raw_size, f.image.manifest.min_disk)
    largest = max((int(d.get("size") or 0) for d in inspection.disks(f.inventory)), default=0)
    if largest < need:
        return failed(
            f"largest disk {largest / 1e9:.1f} GB, image {f.image.name} needs {need / 1e9:.1f} GB",
            "a smaller image, or another node",
        )
    return passed(f"{largest / 1e9:.0f} GB for {need / 1e9:.1f} GB")


@check("boot-mode-fits", "pre-deploy")
async def boot_mode_fits(f: Facts) -> Verdict:
    """The image boots the way the firmware does."""
    if f.image is None or f.image.manifest is None or str(f.node.firmware) == "unknown":
        return skipped("needs an image (--image) and an inspected node")
    if str(f.node.firmware) not in f.image.manifest.firmware:
        modes = ", ".join(f.image.manifest.firmware)
        return failed(f"node boots by {f.node.firmware}, image by {modes}", "an image that boots both ways")
    return passed(f"both {f.node.firmware}")


@check("memory-enough", "pre-deploy")
async def memory_enough(f: Facts) -> Verdict:
    """The ramdisk lives in memory."""
    found = int(f.node.properties.get("memory_mb") or 0)
    if not found:
        return skipped("memory not known: inspect the node")
    if found < 1024:
        return failed(f"{found} MiB of memory", "the deploy ramdisk needs 1 GiB")
    return passed(f"{found} MiB")
