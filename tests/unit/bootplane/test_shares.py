"""Even shares of a wire: the pace of many downloads, on a wire of numbers that TCP divides as unevenly as it does."""

from __future__ import annotations

import pytest

from baremetal.bootplane.shares import LEAST, Pace

MIB = 1 << 20


def divide(wire: float, wants: list[float], weights: list[float]) -> list[float]:
    """What TCP makes of it: by weight, among those that still want more."""
    got = [0.0] * len(wants)
    left = wire
    while left > 1 and (open_ := [n for n in range(len(wants)) if got[n] < wants[n] - 1e-6]):
        whole = sum(weights[n] for n in open_)
        step = min(1.0, *((wants[n] - got[n]) * whole / weights[n] / left for n in open_))
        for n in open_:
            got[n] += left * step * weights[n] / whole
        left = wire - sum(got)
    return got


def run(wire: float, own: list[float], weights: list[float], periods: int = 65) -> list[list[float]]:
    pace, caps, told = Pace(), [1e12] * len(own), []
    for _ in range(periods):
        rates = divide(wire, [min(o, c) for o, c in zip(own, caps, strict=True)], weights)
        told.append(rates)
        caps = [pace.next(sum(rates), len(own))] * len(own)
    return told


FAST = 1e12
WIRES = [  # wire, what each could take by itself, TCP's weights
    (40 * MIB, [FAST] * 10, [1] * 10),
    (40 * MIB, [FAST] * 10, [18, 3, 5, 7, 9, 11, 3, 4, 6, 8]),
    (1200 * MIB, [FAST] * 2, [1, 20]),
    (40 * MIB, [FAST] * 9 + [MIB], [5, 1, 2, 3, 1, 4, 1, 2, 1, 1]),
    (1200 * MIB, [FAST, 50 * MIB], [1, 1]),
    (1200 * MIB, [50 * MIB, 60 * MIB, 20 * MIB], [1, 1, 1]),
]


@pytest.mark.parametrize(("wire", "own", "weights"), WIRES)
def test_the_wire_is_used_and_divided_evenly(wire: float, own: list[float], weights: list[float]) -> None:
    told = run(wire, own, weights)[15:]  # three seconds on
    sums = [sum(rates[n] for rates in told) / len(told) for n in range(len(own))]
    hungry = [s for s, o in zip(sums, own, strict=True) if o == FAST]
    assert sum(sums) > 0.85 * min(wire, sum(own)), "little is left unused"
    assert not hungry or max(hungry) < 1.5 * min(hungry)
    for got, most in zip(sums, own, strict=True):
        assert got > 0.7 * min(most, wire / len(own)), "nobody has much less than an even share of what it wants"


def seconds_to_fill(wire: float, joined: list[float], pace: Pace) -> float:
    """Until nine tenths of the wire are used by downloads that want all they can get; 60 at most."""
    caps = [float(pace.next(sum(joined), len(joined)))] * len(joined)
    for period in range(300):
        rates = divide(wire, caps, [1.0] * len(joined))
        if sum(rates) > 0.9 * wire:
            return period * 0.2
        caps = [float(pace.next(sum(rates), len(joined)))] * len(joined)
    return 60.0


def test_a_rack_that_joins_two_slow_machines_has_the_wire_soon() -> None:
    pace = Pace()
    for _ in range(50):
        pace.next(40 * MIB, 2)  # two disks that take 20 MiB a second
    assert seconds_to_fill(1200 * MIB, [MIB] * 40, pace) < 4


def test_connections_that_start_slowly_are_not_held_there() -> None:
    assert seconds_to_fill(1200 * MIB, [MIB, MIB], Pace()) < 5


def test_nobody_is_paced_to_a_standstill() -> None:
    assert Pace().next(0.0, 1000) == LEAST
    assert Pace().next(1000.0, 2) == LEAST


def test_a_wire_that_others_use_too_is_noticed() -> None:
    pace = Pace()
    for _ in range(5):
        pace.next(100 * MIB, 4)
    for _ in range(100):
        rate = pace.next(50 * MIB, 4)
    assert 12 * MIB < rate < 16 * MIB
