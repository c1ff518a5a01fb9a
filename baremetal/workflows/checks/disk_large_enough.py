"""The image fits the largest local disk."""

from __future__ import annotations

from baremetal.workflows import inspection
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


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
