"""Can this server carry it out? Ramdisk, image, network, database, disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

from baremetal.store import care, nodes
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped

FREE_BYTES = 1024**3


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


@check("network-served", "pre-enroll", "pre-deploy")
async def network_served(f: Facts) -> Verdict:
    """Somebody answers its DHCP request."""
    if not f.world.site.networks:
        return failed("no provisioning network is configured", "add a [[network]] to the configuration: baremetal init")
    return passed(", ".join(f"{n.name} {n.cidr} on {n.interface}" for n in f.world.site.networks))


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


@check("database-sound", "pre-upgrade")
async def database_sound(f: Facts) -> Verdict:
    """Pages, references, secrets."""
    problems = await f.world.store.fetch(lambda c: care.check(c, f.world.operator, f.world.metadata))
    if problems:
        return failed(f"{len(problems)} problems, first: {problems[0]}", "baremetal db check")
    return passed("sound")


@check("nothing-under-way", "pre-upgrade")
async def nothing_under_way(f: Facts) -> Verdict:
    """Not needed (passes go on after a restart), but quieter."""
    busy = f.world.store.read(nodes.working)
    return passed("no workflow runs" if not busy else f"{busy} nodes work; they go on after the restart")


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
