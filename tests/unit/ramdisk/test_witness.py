"""A drive that says it erased itself: what it held must be gone everywhere we looked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baremetal.agents import witness
from baremetal.agents.blockdev import Target
from baremetal.agents.trouble import WipeUnproved

MIB = 1 << 20


@pytest.mark.parametrize("size", [4096, 64 * 1024, 8 * MIB, 8 * MIB + 512, 64 * MIB])
def test_spots_lie_over_the_whole_drive(tmp_path: Path, size: int) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * size)
    with Target(str(path)) as target:
        found = witness.held(target)
    assert found[0][0] == 0
    assert found[-1][0] >= size - 2 * witness.SPOT
    assert len(found) == min(witness.SPOTS, size // witness.SPOT)


def test_an_empty_drive_has_nothing_to_compare(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 1 << 30)
    with Target(str(path)) as target:
        assert witness.held(target) == []
        assert witness.check(target, []) == 0


@pytest.mark.parametrize("after", [b"\0", b"\x5a"])  # zeros, or what another key makes of it
def test_a_drive_that_forgot_everything_is_believed(tmp_path: Path, after: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * MIB)
    with Target(str(path)) as target:
        before = witness.held(target)
        path.write_bytes(after * MIB)
        assert witness.check(target, before) == witness.SPOTS


def test_a_drive_that_kept_one_part_is_not(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * (8 * MIB))
    with Target(str(path)) as target:
        before = witness.held(target)
        path.write_bytes(bytes(4 * MIB) + b"\xa5" * (4 * MIB))
        with pytest.raises(WipeUnproved, match="still holds what it held") as told:
            witness.check(target, before)
    assert told.value.evidence["offset"] >= 4 * MIB
