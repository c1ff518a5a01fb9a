"""Writes a golden image to the root disk: verified, sparse, bounded in memory, never half bootable."""

from __future__ import annotations

import contextlib
import resource
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

from baremetal.agents import gpt, hints, keep
from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.disks import Disk
from baremetal.agents.fetch import GIVE_UP_S, Frames
from baremetal.agents.finish import HEAD, boot_entry, drive_size, finish
from baremetal.agents.http import Client, ServerSaid, Url, retrying
from baremetal.agents.keep import TAIL
from baremetal.agents.manifest import Manifest, verified
from baremetal.agents.pipeline import Pipeline
from baremetal.agents.trouble import (
    ConfigDriveBad,
    DiskReadOnly,
    DiskRefused,
    DiskTooSmall,
    DownloadFailed,
    OrderRefused,
)
from baremetal.errors import BaremetalError
from baremetal.protocol import configdrive, ed25519

Progress = Callable[[str, int, int, str], None]  # stage, done, total, unit; may raise to abort
MAX_MANIFEST = 256 * MIB


@dataclass
class Site:
    """Where we are: how to reach servers, which key to trust, which disks there are."""

    connect: Callable[[str], Client]
    public_key: bytes
    find_disks: Callable[[], List[Disk]]
    progress: Progress
    say: Callable[[str], None] = field(default=lambda text: None)
    give_up_s: float = GIVE_UP_S  # without progress from the server
    efivars: str = ""  # folder of UEFI variables; "" or not there: a BIOS machine


def write_image(args: Dict[str, Any], site: Site) -> Dict[str, Any]:
    """Carry out a write_image order; the data of its report."""
    started = time.monotonic()
    iso = _config_drive(args.get("config_drive"))
    manifest = fetch_manifest(args, site)
    disk = choose_disk(site.find_disks(), dict(args.get("root_device") or {}), manifest, drive_size(iso))
    image_urls = _urls(args, "image_url")
    wanted = keep.Wanted.of(args)
    site.say(f"writing {manifest.name or manifest.id} ({manifest.raw_size / 1e9:.2f} GB) to {hints.describe(disk)}")
    with Target(disk.path) as target:
        _check_target(target, disk, manifest)
        kept = keep.find(target, wanted.preserve, manifest.raw_size)
        frames = Frames(image_urls, manifest, site.connect, give_up_s=site.give_up_s)
        try:
            report = _write(target, manifest, frames, iso, site.progress, kept, wanted)
            report["boot_entry"] = _boot_entry(target, site)
        except BaseException:
            unboot(target, kept)
            raise
    report.update(
        disk=disk.path,
        serial=disk.serial,
        wwn=disk.wwn,
        image=manifest.id,
        bytes=manifest.raw_size,
        received=frames.received,
        resumed=frames.resumed,
        seconds=round(time.monotonic() - started, 2),
        peak_rss_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )
    return report


def fetch_manifest(args: Dict[str, Any], site: Site) -> Manifest:
    """Manifest and signature, verified with the key of this ramdisk, and the one the order names."""
    raw = _get_any(_urls(args, "manifest_url"), site, MAX_MANIFEST)
    signature = _get_any(_urls(args, "signature_url"), site, 4096)
    manifest = verified(raw, signature, site.public_key)
    wanted = args.get("image_id")
    if wanted and _bare(str(wanted)) != _bare(manifest.id):
        raise OrderRefused(
            f"the order is for image {wanted}, the server sent the manifest of {manifest.id}",
            fix="an old or foreign manifest is served under this address: baremetal image verify",
            wanted=str(wanted),
            found=manifest.id,
        )
    return manifest


def choose_disk(disks: List[Disk], root_device: Dict[str, Any], manifest: Manifest, drive: int) -> Disk:
    """The root disk, refused before anything is written when the image cannot work on it."""
    disk = hints.choose(disks, root_device)
    needed = manifest.raw_size + (drive + TAIL if drive else 0)
    if disk.size < needed:
        raise DiskTooSmall(
            f"{disk.path} has {disk.size} bytes, the image {manifest.name or manifest.id} needs {needed}",
            detail=hints.describe(disk),
            fix="choose a larger disk by root_device hints, or build a smaller image",
            disk=disk.path,
            size=disk.size,
            needed=needed,
        )
    if disk.logical_sector != manifest.sector_size:
        raise DiskRefused(
            f"{disk.path} has sectors of {disk.logical_sector} bytes, the image is made for {manifest.sector_size}",
            fix="build the image for this sector size, or reformat the drive (nvme format --lbaf)",
            disk=disk.path,
        )
    if disk.read_only:
        raise DiskReadOnly(f"{disk.path} is write-protected", fix="check its switch or controller", disk=disk.path)
    return disk


def unboot(target: Target, kept: List[gpt.Partition]) -> None:
    """Clear what firmware would boot. The first fault counts, so a second one here stays silent."""
    with contextlib.suppress(BaremetalError):
        keep.unbootable(target, kept)


def _write(
    target: Target,
    manifest: Manifest,
    frames: Frames,
    iso: Optional[bytes],
    progress: Progress,
    kept: List[gpt.Partition],
    wanted: keep.Wanted,
) -> Dict[str, Any]:
    total = manifest.raw_size
    progress("write", 0, total, "bytes")
    keep.unbootable(target, kept)
    pipeline = Pipeline(
        manifest, frames, target, HEAD, lambda done: progress("write", done, total, "bytes"), bool(kept)
    )
    head = pipeline.run()
    progress("flush", total, total, "bytes")
    target.sync()
    report = finish(target, head, iso, kept, wanted)
    report.update(written=pipeline.writer.written, zeroed=pipeline.writer.zeroed)
    return report


def _boot_entry(target: Target, site: Site) -> Optional[Dict[str, Any]]:
    """A firmware that takes no entry still boots the fallback loader: told, not fatal."""
    try:
        return boot_entry(target, site.efivars) if site.efivars else None
    except BaremetalError as exc:
        site.say(f"no boot entry: {exc.brief}: {exc.detail}")
        return {"trouble": exc.brief, "detail": exc.detail}


def _check_target(target: Target, disk: Disk, manifest: Manifest) -> None:
    """What sysfs said and what the opened disk says are two things after a hot swap."""
    if target.size < manifest.raw_size:
        raise DiskTooSmall(
            f"{disk.path} has {target.size} bytes now, the image needs {manifest.raw_size}", disk=disk.path
        )


def _config_drive(text: Any) -> Optional[bytes]:
    if text in (None, ""):
        return None
    if not isinstance(text, str):
        raise ConfigDriveBad("the order's config drive is no text")
    try:
        return configdrive.unpack(text)
    except configdrive.BadDrive as exc:
        raise ConfigDriveBad("the order's config drive is damaged", detail=str(exc), fix="deploy again") from exc


def _get_any(urls: List[str], site: Site, limit: int) -> bytes:
    """From the first place that has it; the others are asked when it is away."""
    for url in urls[:-1]:
        try:
            return _get(url, site, limit, 10)
        except DownloadFailed as exc:
            site.say(f"{exc.brief}: asking another server")
    return _get(urls[-1], site, limit, 120)


def _get(url: str, site: Site, limit: int, for_s: float) -> bytes:
    client = site.connect(url)
    try:
        answer = retrying(lambda: client.request("GET", Url.parse(url).target, limit=limit).expect(200), for_s=for_s)
    except ServerSaid as exc:
        raise DownloadFailed(f"{url}: {exc.brief}", detail=exc.detail, fix=exc.fix, status=exc.status) from exc
    except BaremetalError as exc:
        raise DownloadFailed(
            f"{url} cannot be fetched", detail=str(exc), fix="check the network and the server"
        ) from exc
    finally:
        client.close()
    return answer.body


def _urls(args: Dict[str, Any], name: str) -> List[str]:
    """Where the order says it lies: NAME, or several places in NAMEs, the same bytes at each."""
    several = args.get(name + "s")
    values = several if isinstance(several, list) and several else [args.get(name)]
    found = []
    for value in values:
        try:
            if not isinstance(value, str):
                raise OrderRefused(f"write_image: {name} is missing")
            Url.parse(value)
        except ValueError as exc:
            raise OrderRefused(f"write_image: {name}: {exc}") from exc
        found.append(value)
    return found


def _bare(image_id: str) -> str:
    return image_id.rpartition(":")[2]


def parse_key(text: str) -> bytes:
    """The signing key from the ramdisk's trust anchors; OrderRefused when it is none."""
    try:
        return ed25519.parse_public_key(text)
    except ValueError as exc:
        raise OrderRefused(
            "no usable image signing key in the ramdisk", detail=str(exc), fix="see 'trust anchors' in the server's log"
        ) from exc
