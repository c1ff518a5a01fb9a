"""What is inside a tree: packages with versions, files with digests; and its SBOM."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from baremetal.images.nodes import Node


@dataclass(frozen=True)
class Package:
    """One installed Debian package."""

    name: str
    version: str
    arch: str
    source: str = ""
    maintainer: str = ""


def packages(status: Path) -> list[Package]:
    """Installed packages from a dpkg status file, sorted."""
    try:
        text = status.read_text(errors="replace")
    except OSError:
        return []
    found = []
    for fields in stanzas(text):
        if fields.get("status", "").endswith(" installed"):
            source = fields.get("source", fields["package"]).split(" ")[0]
            found.append(
                Package(
                    fields["package"],
                    fields.get("version", ""),
                    fields.get("architecture", ""),
                    source,
                    fields.get("maintainer", ""),
                )
            )
    return sorted(found, key=lambda package: (package.name, package.arch))


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file, first lines of their fields only."""
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            if line[:1] not in (" ", "\t") and ":" in line:
                key, _, value = line.partition(":")
                fields[key.lower()] = value.strip()
        if "package" in fields:
            yield fields


def files(found: Iterable[Node]) -> Iterator[str]:
    """One line a file: mode, owner, size, path, and digest, link target or device numbers."""
    for node in found:
        mode, st = node.st.st_mode, node.st
        if stat.S_ISREG(mode):
            what = node.sha256
        elif stat.S_ISLNK(mode):
            what = "-> " + os.readlink(node.source)
        else:
            what = f"{os.major(st.st_rdev)},{os.minor(st.st_rdev)}" if st.st_rdev else "-"
        size = st.st_size if stat.S_ISREG(mode) else 0
        yield f"{mode:06o} {st.st_uid}:{st.st_gid} {size} {node.path}\t{what}"


def write(entries: Sequence[Node], out: Path, *, name: str, epoch: int, status: Path | None) -> None:
    """packages.json, files.txt and sbom.cdx.json beside the image."""
    found = packages(status) if status else []
    (out / "packages.json").write_text(json.dumps([asdict(package) for package in found], indent=1) + "\n")
    with open(out / "files.txt", "w", errors="surrogateescape") as file:
        file.writelines(line + "\n" for line in files(entries))
    from baremetal.images import sbom

    (out / "sbom.cdx.json").write_text(sbom.cyclonedx(name, found, epoch))
