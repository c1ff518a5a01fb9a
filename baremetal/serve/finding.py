"""What one check of `baremetal doctor` found."""

from __future__ import annotations

from dataclasses import dataclass

PASS, WARN, FAIL, SKIP = "pass", "warn", "fail", "skip"


@dataclass(frozen=True)
class Finding:
    """One check: `verdict` is pass, warn, fail or skip."""

    check: str
    verdict: str
    reason: str
    fix: str = ""
