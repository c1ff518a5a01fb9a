"""Package files kept between builds: their digests as they were fetched, so that one gone bad is fetched again.

apt checks what it downloads, but of a file that lies in its archive already only
the size (seen with apt 2.6: a changed byte, and every build ends in dpkg's "data
is corrupt"). cache/packages.json holds path -> [SHA-256, when it was read, s].
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from baremetal.images import rereading
from baremetal.images.contents import file_sha256

LEDGER = "packages.json"


def look(cache: Path, *, read: bool = False) -> list[str]:
    """Note new package files; remove those that are not as they were fetched, and return their names.

    Bytes are read when that is due (rereading.py), or of all when `read`.
    """
    known, kept, bad = _known(cache), {}, []
    for path in sorted((cache / "dib/apt").rglob("*.deb")):
        name = str(path.relative_to(cache))
        digest, when = known.get(name, ("", 0.0))
        if digest and not read and not rereading.stale(when, path.stat().st_ctime):
            kept[name] = (digest, when)
            continue
        now, found = time.time(), file_sha256(str(path))
        if digest in ("", found):
            kept[name] = (found, now)
        else:
            path.unlink()
            bad.append(path.name)
    _keep(cache, kept)
    return bad


def _known(cache: Path) -> dict[str, tuple[str, float]]:
    try:
        found = json.loads((cache / LEDGER).read_text())
        return {str(name): (str(digest), float(when)) for name, (digest, when) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(cache: Path, kept: dict[str, tuple[str, float]]) -> None:
    draft = cache / f"{LEDGER}.new"
    with contextlib.suppress(OSError):  # the disk may be full; then they are read again
        draft.write_text(json.dumps(kept))
        os.replace(draft, cache / LEDGER)
