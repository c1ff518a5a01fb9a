"""The Debian mirror this machine uses, read from its apt configuration when a build starts.

No mirror is written in this repository. DIB_DISTRIBUTION_MIRROR and
DIB_DEBIAN_SECURITY_MIRROR win over what apt says; the finished image names the
same archives unless DIB_IMAGE_MIRROR and DIB_IMAGE_SECURITY_MIRROR say others.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from baremetal.images.errors import BadDefinition, NoMirror

# A mirror is asked for news at most this often, unless --refresh says otherwise.
FRESH_FOR_S = 12 * 3600


@dataclass(frozen=True)
class Mirror:
    """Where packages come from: main archive and security archive; "" when the machine names none."""

    archive: str = ""
    security: str = ""

    def suites(self, release: str) -> list[tuple[str, str]]:
        """(url, suite) of each package source for a release."""
        if release in ("testing", "unstable", "sid"):
            return [(self.archive, release)]
        security = [(self.security, f"{release}-security")] if self.security else []
        return [(self.archive, release), (self.archive, f"{release}-updates"), *security]

    def environment(self) -> dict[str, str]:
        """The variables by which elements know it, for the build and for the finished image."""
        env: dict[str, str] = {}
        if self.archive:
            env |= {"DIB_DISTRIBUTION_MIRROR": self.archive, "DIB_IMAGE_MIRROR": self.archive}
        if self.security:
            env |= {"DIB_DEBIAN_SECURITY_MIRROR": self.security, "DIB_IMAGE_SECURITY_MIRROR": self.security}
        return env


@dataclass(frozen=True)
class Snapshot:
    """What the mirror offered: a digest over its InRelease files, when seen (epoch s), the newest Date in them."""

    digest: str
    seen: float
    epoch: int
    stale: str = ""


def from_machine(env: Mapping[str, str], release: str = "bookworm", etc: Path = Path("/etc/apt")) -> Mirror:
    """The mirror of this machine for a release, overridden by the environment diskimage-builder knows."""
    found = list(_sources(etc))
    serves: dict[str, set[str]] = {}
    for url, suite in found:
        serves.setdefault(url, set()).add(suite)
    archives = [url for url, suite in found if suite in (release, *_DEBIAN)]
    # A vendor's repository may have a suite of the same name, but no updates suite.
    archives.sort(
        key=lambda url: (f"{release}-updates" not in serves[url], release not in serves[url], "debian" not in url)
    )
    security = [url for url, suite in found if suite.endswith("-security")]
    security.sort(key=lambda url: f"{release}-security" not in serves[url])
    return Mirror(
        archive=env.get("DIB_DISTRIBUTION_MIRROR", next(iter(archives), "")).rstrip("/"),
        security=env.get("DIB_DEBIAN_SECURITY_MIRROR", next(iter(security), "")).rstrip("/"),
    )


def required(mirror: Mirror, scripts: Iterable[Path]) -> None:
    """NoMirror when one of the scripts installs from a mirror and this machine's apt names none."""
    if mirror.archive:
        return
    for path in scripts:
        if path.is_file() and b"DIB_DISTRIBUTION_MIRROR" in path.read_bytes():
            raise NoMirror(
                f"{path.name} needs a Debian mirror, and this machine's apt names none",
                detail="looked in /etc/apt/sources.list and /etc/apt/sources.list.d",
                fix="set DIB_DISTRIBUTION_MIRROR to your mirror's URL (http://…/debian)",
            )


# A release's archive serves the others too.
_DEBIAN = ("bookworm", "trixie", "forky", "stable", "testing", "sid", "unstable")


def _sources(etc: Path) -> Iterator[tuple[str, str]]:
    """(url, suite) from sources.list and sources.list.d, both formats."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text()
        except OSError:
            continue
        for url, suite in _deb822(text) if path.suffix == ".sources" else _one_line(text):
            if "/" not in suite:
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
        if not re.fullmatch("[0-9]{1,10}", definition_epoch):
            raise BadDefinition(
                f"SOURCE_DATE_EPOCH {definition_epoch!r} is no date", fix="seconds since 1970: date -d 2026-01-31 +%s"
            )
        return int(definition_epoch)
    return seen.epoch or 1735689600
