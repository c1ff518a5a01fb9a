"""Who has which address. No clock, no disk: time comes in, what must be durable goes out.

A lease belongs to a hardware address, never to a client id: one machine sends
none from its firmware, 01+MAC from iPXE and a DUID from its operating system,
and must keep its address through all three. Times are Unix seconds as the
caller counts them. Addresses are ints inside, so that the pool is arithmetic.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

OFFER_S = 60.0  # an offer nobody takes up is ours again after this
DECLINED_S = 600.0  # an address somebody else uses is left alone so long
MOST_FORMER = 65_536  # machines whose former address is remembered
SWEEP_S = 1.0  # a full pool is searched for expired leases at most this often


class Hold(IntEnum):
    """How firmly an address is held."""

    OFFERED = 0
    BOUND = 1
    DECLINED = 2


@dataclass(slots=True)
class Lease:
    """`key` is the hardware address (for other than Ethernet: type byte before it); `expires` Unix seconds.

    `offers`: how often it was offered and not taken.
    """

    key: bytes
    ip: int
    expires: float
    hold: Hold
    offers: int = 0

    @property
    def address(self) -> str:
        return str(ipaddress.IPv4Address(self.ip))


class LeaseTable:
    """The leases of one subnet. Every operation costs the same at ten and at 100,000 leases."""

    def __init__(self, first: str, last: str, never: Iterable[str] = ()) -> None:
        self.first = int(ipaddress.IPv4Address(first))
        self.last = int(ipaddress.IPv4Address(last))
        self.by_key: dict[bytes, Lease] = {}
        self.by_ip: dict[int, Lease] = {}
        self._never = {int(ipaddress.IPv4Address(a)) for a in never}
        self._fixed: dict[int, frozenset[bytes]] = {}
        self._cursor = self.first
        self._free: deque[int] = deque()
        self._former: dict[bytes, int] = {}
        self._swept = float("-inf")

    @property
    def size(self) -> int:
        """Addresses in the range."""
        return max(0, self.last - self.first + 1)

    def fix(self, ip: int, owners: frozenset[bytes]) -> None:
        """Keep an address for these machines only."""
        self._fixed[ip] = owners

    def unfix(self, ip: int) -> None:
        if self._fixed.pop(ip, None) is not None and self.first <= ip <= self.last and ip not in self.by_ip:
            self._free.append(ip)

    def of(self, key: bytes) -> Lease | None:
        return self.by_key.get(key)

    def holder(self, ip: int, now: float) -> Lease | None:
        """Who holds this address now; None when nobody does."""
        lease = self.by_ip.get(ip)
        return lease if lease is not None and lease.expires > now else None

    def may_have(self, key: bytes, ip: int, now: float) -> bool:
        """May this machine get this address: in range (or fixed to it), and nobody else's?"""
        owners = self._fixed.get(ip)
        if owners is not None:
            if key not in owners:
                return False
        elif not self.first <= ip <= self.last or ip in self._never:
            return False
        held = self.by_ip.get(ip)
        if held is None or held.expires <= now:
            return True
        return held.key == key and held.hold is not Hold.DECLINED

    def offer(self, key: bytes, now: float, wish: int = 0, fixed: int = 0) -> Lease | None:
        """An address for this machine; None when there is none. Repeated offers are the same."""
        mine = self.by_key.get(key)
        if fixed:
            if not self.may_have(key, fixed, now):
                return None
            if mine is not None and mine.ip == fixed:
                return self._hold_offer(mine, now)
            return self._take(key, fixed, now + OFFER_S, Hold.OFFERED)
        if mine is not None and self.may_have(key, mine.ip, now) and mine.ip not in self._fixed:
            return self._hold_offer(mine, now)
        # The address it asks for, else the one it gave back (RFC 2131 §4.3.1), else any.
        wish = wish or self._former.get(key, 0)
        ip = wish if wish and wish not in self._fixed and self.may_have(key, wish, now) else self._pick(key, now)
        return self._take(key, ip, now + OFFER_S, Hold.OFFERED) if ip else None

    def bind(self, key: bytes, ip: int, expires: float) -> Lease:
        """The lease is given. The caller has asked may_have."""
        mine = self.by_key.get(key)
        if mine is not None and mine.ip == ip:
            mine.expires = expires
            mine.hold = Hold.BOUND
            mine.offers = 0
            return mine
        return self._take(key, ip, expires, Hold.BOUND)

    def release(self, key: bytes, ip: int) -> bool:
        """The machine gives its address back."""
        mine = self.by_key.get(key)
        if mine is None or mine.ip != ip or mine.hold is Hold.DECLINED:
            return False
        self._drop(mine)
        if ip not in self._fixed and self.first <= ip <= self.last:
            self._free.append(ip)
            if len(self._former) >= MOST_FORMER:
                self._former.clear()
            self._former[key] = ip
        return True

    def evict(self, ip: int) -> Lease | None:
        """Take an address back, whoever has it; None when nobody does."""
        lease = self.by_ip.get(ip)
        if lease is None:
            return None
        if self.by_key.get(lease.key) is lease:
            del self.by_key[lease.key]
        del self.by_ip[ip]
        if ip not in self._fixed and self.first <= ip <= self.last:
            self._free.append(ip)
        return lease

    def withdraw(self, key: bytes) -> None:
        """The machine took another server's offer: ours is free again."""
        mine = self.by_key.get(key)
        if mine is not None and mine.hold is Hold.OFFERED:
            self.release(key, mine.ip)

    def decline(self, key: bytes, ip: int, now: float) -> bool:
        """Somebody else uses this address: nobody gets it for a while."""
        mine = self.by_key.get(key)
        if mine is None or mine.ip != ip:
            return False
        del self.by_key[key]
        mine.expires = now + DECLINED_S
        mine.hold = Hold.DECLINED
        return True

    def restore(self, key: bytes, ip: int, expires: float) -> None:
        """A line of the journal; later lines win."""
        if self.first <= ip <= self.last and ip not in self._never:
            self._take(key, ip, expires, Hold.BOUND)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self.by_ip.values())

    def __len__(self) -> int:
        return len(self.by_ip)

    def _hold_offer(self, mine: Lease, now: float) -> Lease:
        mine.offers += 1
        if mine.expires <= now:
            mine.hold = Hold.OFFERED
        if mine.expires < now + OFFER_S:
            mine.expires = now + OFFER_S
        return mine

    def _take(self, key: bytes, ip: int, expires: float, hold: Hold) -> Lease:
        before = self.by_ip.get(ip)
        if before is not None and self.by_key.get(before.key) is before:
            del self.by_key[before.key]
        mine = self.by_key.get(key)
        if mine is not None:
            self._drop(mine)
            if mine.ip not in self._fixed and self.first <= mine.ip <= self.last:
                self._free.append(mine.ip)
        lease = Lease(key, ip, expires, hold)
        self.by_key[key] = self.by_ip[ip] = lease
        return lease

    def _drop(self, lease: Lease) -> None:
        self.by_key.pop(lease.key, None)
        if self.by_ip.get(lease.ip) is lease:
            del self.by_ip[lease.ip]

    def _pick(self, key: bytes, now: float) -> int:
        """A never-used address first, then those given back, then expired ones, oldest first. 0: none."""
        while self._cursor <= self.last:
            ip = self._cursor
            self._cursor += 1
            if ip not in self.by_ip and ip not in self._fixed and ip not in self._never:
                return ip
        for again in (False, True):
            while self._free:
                ip = self._free.popleft()
                if ip not in self._fixed and self.may_have(key, ip, now):
                    return ip
            if again or now - self._swept < SWEEP_S:
                return 0
            self._swept = now
            gone = sorted((lease for lease in self.by_ip.values() if lease.expires <= now), key=lambda x: x.expires)
            self._free.extend(lease.ip for lease in gone if self.first <= lease.ip <= self.last)
        return 0
