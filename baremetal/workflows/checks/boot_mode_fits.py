"""The image boots the way the firmware does."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("boot-mode-fits", "pre-deploy")
async def boot_mode_fits(f: Facts) -> Verdict:
    """The image boots the way the firmware does."""
    if f.image is None or f.image.manifest is None or str(f.node.firmware) == "unknown":
        return skipped("needs an image (--image) and an inspected node")
    if str(f.node.firmware) not in f.image.manifest.firmware:
        modes = ", ".join(f.image.manifest.firmware)
        return failed(f"node boots by {f.node.firmware}, image by {modes}", "an image that boots both ways")
    return passed(f"both {f.node.firmware}")
