"""A share of the wire for downloads, so that scripts, loaders and agents get through beside a hundred images.

throttle = Throttle(bytes_s=100 << 20)
await throttle.turn(8 << 20)       # returns when so many bytes may leave
"""

from __future__ import annotations

import asyncio


class Throttle:
    """All who wait share `bytes_s`, first come first served. 0: no limit."""

    def __init__(self, bytes_s: int = 0) -> None:
        self.bytes_s = bytes_s
        self._free_at = 0.0

    def piece(self, most: int) -> int:
        """How much to send at once: a 64th of a second's worth, so that ten have each had a turn in a sixth of one."""
        return max(1 << 16, min(most, self.bytes_s // 64)) if self.bytes_s else most

    async def turn(self, count: int) -> None:
        """Wait until `count` bytes may leave."""
        if not self.bytes_s:
            return
        now = asyncio.get_running_loop().time()
        begins = max(now, self._free_at)
        self._free_at = begins + count / self.bytes_s
        if begins > now:
            await asyncio.sleep(begins - now)
