"""Fetch a page until it shows a text: `python -m baremetal.lab.fetch URL TEXT SECONDS`.

Run inside a lab's network. Prints the page; exit 1 with the last trouble when
the text did not come in time.
"""

from __future__ import annotations

import sys
import time
import urllib.request


def fetch(url: str, wanted: str, seconds: float) -> tuple[bool, str]:
    """(did it come, page or last trouble)."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, inside the lab's own network
                last = answer.read(65536).decode(errors="replace")
            if wanted in last:
                return True, last
        except OSError as exc:
            last = str(exc)
        if time.monotonic() > deadline:
            return False, last
        time.sleep(0.05)


def main() -> int:
    url, wanted, seconds = sys.argv[1:4]
    ok, text = fetch(url, wanted, float(seconds))
    print(text)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
