"""The image's files are there in full."""

from __future__ import annotations

from pathlib import Path

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("image-complete", "pre-deploy")
async def image_complete(f: Facts) -> Verdict:
    """The image's files are there in full."""
    if f.image is None:
        return skipped("no image given (--image)")
    data = Path(str(f.image.dir)) / "image.zst"
    if not data.exists():
        return failed(
            f"{data.name} of {f.image.name} is missing", f"add it again: baremetal image add … --name {f.image.name}"
        )
    want = f.image.manifest.zst_size if f.image.manifest else None
    if want is not None and data.stat().st_size != want:
        return failed(f"{data.stat().st_size} bytes, the manifest says {want}", "add the image again")
    return passed(f"{data.stat().st_size / 1e6:.0f} MB")
