"""Writes a golden image to the root disk: verified, sparse, bounded in memory, never half bootable."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

from baremetal.agents import hints
from baremetal.agents.blockdev import MIB, Target
from baremetal.agents.disks import Disk
from baremetal.agents.fetch import GIVE_UP_S, Frames
from baremetal.agents.finish import HEAD, drive_size, finish
from baremetal.agents.http import Client, ServerSaid, Url, retrying
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
TAIL = MIB  # bytes at the end of the disk where an old backup table may lie


@dataclass
class Site:
    """Where we are: how to reach servers, which key to trust, which disks there are."""

    connect: Callable[[str], Client]
    public_key: bytes
    find_disks: Callable[[], List[Disk]]
    progress: Progress
    say: Callable[[str], None] = field(default=lambda text: None)
    give_up_s: float = GIVE_UP_S  # without progress from the server


def write_image(args: Dict[str, Any], site: Site) -> Dict[str, Any]:
    """Carry out a write_image order; the data of its report."""
    started = time.monotonic()
    iso = _config_drive(args.get("config_drive"))
    manifest = fetch_manifest(args, site)
    disk = choose_disk(site.find_disks(), dict(args.get("root_device") or {}), manifest, drive_size(iso))
    image_url = _url(args, "image_url")
    site.say(f"writing {manifest.name or manifest.id} ({manifest.raw_size / 1e9:.2f} GB) to {hints.describe(disk)}")
    with Target(disk.path) as target:
        _check_target(target, disk, manifest)
        frames = Frames(image_url, manifest, site.connect, give_up_s=site.give_up_s)
        try:
            report = _write(target, manifest, frames, iso, site.progress)
        except BaseException:
            unboot(target)
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
    raw = _get(_url(args, "manifest_url"), site, MAX_MANIFEST)
    signature = _get(_url(args, "signature_url"), site, 4096)
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


def unboot(target: Target) -> None:
    """Clear what firmware would boot. The first fault counts, so a second one here stays silent."""
    try:
        target.zero(0, min(HEAD, target.size))
        target.sync()
    except BaremetalError:
        pass


def _write(
    target: Target, manifest: Manifest, frames: Frames, iso: Optional[bytes], progress: Progress
) -> Dict[str, Any]:
    total = manifest.raw_size
    progress("write", 0, total, "bytes")
    target.zero(0, min(HEAD, target.size))
    tail = min(TAIL, target.size) // 4096 * 4096
    target.zero(target.size // target.sector * target.sector - tail, tail)
    target.sync()
    pipeline = Pipeline(manifest, frames, target, HEAD, lambda done: progress("write", done, total, "bytes"))
    head = pipeline.run()
    progress("flush", total, total, "bytes")
    target.sync()
    report = finish(target, head, iso)
    report.update(written=pipeline.writer.written, zeroed=pipeline.writer.zeroed)
    return report


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


def _get(url: str, site: Site, limit: int) -> bytes:
    client = site.connect(url)
    try:
        answer = retrying(lambda: client.request("GET", Url.parse(url).target, limit=limit).expect(200), for_s=120)
    except ServerSaid as exc:
        raise DownloadFailed(f"{url}: {exc.brief}", detail=exc.detail, fix=exc.fix, status=exc.status) from exc
    except BaremetalError as exc:
        raise DownloadFailed(
            f"{url} cannot be fetched", detail=str(exc), fix="check the network and the server"
        ) from exc
    finally:
        client.close()
    return answer.body


def _url(args: Dict[str, Any], name: str) -> str:
    value = args.get(name)
    try:
        if isinstance(value, str):
            Url.parse(value)
            return value
    except ValueError as exc:
        raise OrderRefused(f"write_image: {name}: {exc}") from exc
    raise OrderRefused(f"write_image: {name} is missing")


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
