"""What a Debian mirror has: name, version and SHA-256 of every package, read from its Packages files.

Used before a locked build begins, so that a package the mirror has dropped is
named at once and not after everything has been installed.
"""

from __future__ import annotations

import gzip
import io
import lzma
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from baremetal.images import lockfile
from baremetal.images.errors import BuildFailed
from baremetal.images.mirror import Mirror

ANSWER_S = 30.0
LARGEST_INDEX = 64 << 20  # bytes, packed
LARGEST_TEXT = 512 << 20  # bytes, unpacked: Debian's main is 50 MB
SHOWN = 12

Index = dict[str, dict[str, str]]
"""name -> version -> SHA-256."""


def read(mirror: Mirror, release: str, arch: str) -> Index | None:
    """Everything in `main` of all suites; None when the mirror does not answer."""
    found: Index = {}
    for url, suite in mirror.suites(release):
        text = _packages(f"{url}/dists/{suite}/main/binary-{arch}/Packages")
        if text is None:
            return None
        _add(found, text)
    return found


def _packages(address: str) -> str | None:
    for suffix, unpacked in ((".xz", lzma.open), (".gz", gzip.open)):
        try:
            with urllib.request.urlopen(address + suffix, timeout=ANSWER_S) as answer:  # noqa: S310
                packed = io.BytesIO(answer.read(LARGEST_INDEX))
            return unpacked(packed).read(LARGEST_TEXT).decode(errors="replace")
        except (OSError, ValueError, lzma.LZMAError, EOFError, urllib.error.URLError):
            continue
    return None


def _add(found: Index, text: str) -> None:
    name = version = ""
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if key == "Package":
            name = value
        elif key == "Version":
            version = value
        elif key == "SHA256":
            found.setdefault(name, {})[version] = value


def gone(lock: Path, index: Mapping[str, Mapping[str, str]]) -> list[str]:
    """In words: locked packages the mirror has no more, or has with other content."""
    words = []
    for name, version, digest in lockfile.rows(lock):
        here = index.get(name, {})
        if version not in here:
            has = f"the mirror has {', '.join(sorted(here))}" if here else "the mirror has no version of it"
            words.append(f"{name} {version} is gone: {has}")
        elif digest and here[version] != digest:
            words.append(
                f"{name} {version} is another file there (sha256 {here[version][:12]}…, locked {digest[:12]}…)"
            )
    return words


def require(lock: Path, name: str, mirror: Mirror, release: str, arch: str) -> None:
    """BuildFailed when the mirror cannot give what the lock file names; silent when it does not answer."""
    index = read(mirror, release, arch)
    words = gone(lock, index) if index is not None else []
    if words:
        more = [f"and {len(words) - SHOWN} more"] if len(words) > SHOWN else []
        raise BuildFailed(
            f"{name}: {len(words)} of its locked packages cannot be had from the mirror any more",
            detail="\n".join(f"  {line}" for line in [*words[:SHOWN], *more]),
            fix="name a snapshot of the archive that has them (DIB_DISTRIBUTION_MIRROR=…), or move on:"
            f" rm {lock}, build, and lock again with: baremetal image lock {name}",
        )
