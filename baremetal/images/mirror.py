"""The Debian mirror this machine uses, read from its apt configuration when a build starts.

No mirror is written in this repository. DIB_DISTRIBUTION_MIRROR and
DIB_DEBIAN_SECURITY_MIRROR win over what apt says.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ARCHIVE = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
# A mirror is asked for news at most this often, unless --refresh says otherwise.
FRESH_FOR_S = 12 * 3600


@dataclass(frozen=True)
class Mirror:
    """Where packages come from: main archive and security archive."""

    archive: str = ARCHIVE
    security: str = SECURITY

    def suites(self, release: str) -> list[tuple[str, str]]:
        """(url, suite) of each package source for a release."""
        if release in ("testing", "unstable", "sid"):
            return [(self.archive, release)]
        security = (self.security, f"{release}-security")
        return [(self.archive, release), (self.archive, f"{release}-updates"), security]


@dataclass(frozen=True)
class Snapshot:
    """What the mirror offered: a digest over its InRelease files, when seen (epoch s), the newest Date in them."""

    digest: str
    seen: float
    epoch: int
    stale: str = ""


def from_machine(env: Mapping[str, str], etc: Path = Path("/etc/apt")) -> Mirror:
    """The mirror of this machine, overridden by the environment diskimage-builder knows."""
    archive, security = ARCHIVE, SECURITY
    for url, suite in _sources(etc):
        if suite.endswith("-security"):
            security = url
        elif "/" not in suite and "debian" in url:
            archive = url
    return Mirror(
        archive=env.get("DIB_DISTRIBUTION_MIRROR", archive).rstrip("/"),
        security=env.get("DIB_DEBIAN_SECURITY_MIRROR", security).rstrip("/"),
    )


def _sources(etc: Path) -> Iterator[tuple[str, str]]:
    """(url, suite) from sources.list and sources.list.d, both formats, Debian suites only."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text()
        except OSError:
            continue
        entries = _deb822(text) if path.suffix == ".sources" else _one_line(text)
        for url, suite in entries:
            if any(word in suite for word in ("bookworm", "trixie", "forky", "stable", "testing", "sid")):
                yield url.rstrip("/"), suite


def _one_line(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest and not rest[0].endswith("]"):
                rest = rest[1:]
            rest = rest[1:]
        if len(rest) >= 2:
            yield rest[0], rest[1]


def _deb822(text: str) -> Iterator[tuple[str, str]]:
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            if line[:1] not in ("#", " ", "\t") and ":" in line:
                key, _, value = line.partition(":")
                fields[key.strip().lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for url in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield url, suite


def snapshot(
    mirror: Mirror, release: str, cache: Path, *, refresh: bool = False, offline: bool = False, now: float | None = None
) -> Snapshot:
    """What the mirror offers now; the remembered answer when it is fresh, or when the mirror is down."""
    at = time.time() if now is None else now
    suites = mirror.suites(release)
    name = hashlib.sha256(json.dumps(suites).encode()).hexdigest()[:16]
    memory = cache / "mirrors" / f"{name}.json"
    known = _remembered(memory)
    if known and not refresh and (offline or at - known.seen < FRESH_FOR_S):
        return known
    if offline:
        return Snapshot("offline", at, 0, stale="offline and this mirror was never seen")
    try:
        digest, epoch = _ask(suites)
    except (OSError, ValueError, urllib.error.URLError) as exc:
        if known:
            return Snapshot(known.digest, known.seen, known.epoch, stale=f"mirror does not answer: {exc}")
        return Snapshot("unknown", at, 0, stale=f"mirror does not answer: {exc}")
    fresh = Snapshot(digest, at, epoch)
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(asdict(fresh)))
    return fresh


def _remembered(path: Path) -> Snapshot | None:
    try:
        return Snapshot(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _ask(suites: Iterable[tuple[str, str]]) -> tuple[str, int]:
    """Digest over the InRelease files and the newest Date among them (epoch s)."""
    from email.utils import parsedate_to_datetime

    digest, epoch = hashlib.sha256(), 0
    for url, suite in suites:
        with urllib.request.urlopen(f"{url}/dists/{suite}/InRelease", timeout=15) as answer:  # noqa: S310
            text = answer.read(4 << 20)
        digest.update(hashlib.sha256(text).digest())
        for line in text.decode(errors="replace").splitlines()[:40]:
            if line.startswith("Date: "):
                epoch = max(epoch, int(parsedate_to_datetime(line[6:]).timestamp()))
    return digest.hexdigest(), epoch


def epoch_of(definition_epoch: str | None, seen: Snapshot) -> int:
    """SOURCE_DATE_EPOCH: what was asked for, else the date of the packages, else the first of 2025."""
    if definition_epoch:
        return int(definition_epoch)
    return seen.epoch or 1735689600
