"""A file or URL to add to the store, opened; a URL needs a digest to hold it to."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from baremetal.errors import Unreachable, UsageError


@contextlib.contextmanager
def opened(source: str, sha256: str) -> Iterator[Path | BinaryIO]:
    """The path of a local file, or the stream of a download."""
    if "://" not in source:
        path = Path(source)
        if not path.is_file():
            raise UsageError(f"{source}: no such file")
        yield path
        return
    if not source.startswith(("http://", "https://")):
        raise UsageError(f"{source}: only http and https are fetched")
    if not sha256:
        raise UsageError("an image from a URL needs --sha256", fix="take it from the publisher's SHA256SUMS")
    try:
        with urllib.request.urlopen(source, timeout=60) as answer:  # noqa: S310
            yield cast(BinaryIO, answer)
    except urllib.error.URLError as exc:
        raise Unreachable(f"{source}: {exc.reason}") from exc
