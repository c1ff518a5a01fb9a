"""A dead clock battery: take the server's time, once it has proved who it is."""

from __future__ import annotations

import time
from typing import Optional

MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
TOLERANCE_S = 60


def parse_date(text: str) -> Optional[int]:
    """Unix seconds of an HTTP Date (RFC 9110 §5.6.7), None when it is none.

    Not email.utils nor strptime: both cost a third of a second to import on a slow machine.
    """
    words = text.replace(":", " ").split()
    try:
        day, year, hour, minute, second = (int(words[n]) for n in (1, 3, 4, 5, 6))
        month = MONTHS.index(words[2]) // 3 + 1
    except (IndexError, ValueError):
        return None
    if not (1 <= day <= 31 and 1970 <= year < 10000 and hour < 24 and minute < 60 and second <= 60):
        return None
    # Days since 1970 with years that begin in March (Hinnant, "chrono-compatible low-level date algorithms").
    y = year - (month <= 2)
    of_era = y % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = y // 400 * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return days * 86400 + hour * 3600 + minute * 60 + second


def follow(date: str) -> bool:
    """Set the clock when it is off by more than a minute; True when it was set.

    A clock we may not set stays wrong: it only makes log lines odd, TLS does not look at it.
    """
    theirs = parse_date(date)
    if theirs is None or abs(theirs - time.time()) <= TOLERANCE_S:
        return False
    try:
        time.clock_settime(time.CLOCK_REALTIME, theirs)
    except OSError:
        return False
    return True
