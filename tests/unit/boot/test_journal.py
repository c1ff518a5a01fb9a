"""The lease journal: what a crash, a full disk or a stray byte leaves, and who still has which address."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.serve.journal import LeaseJournal
from baremetal.wire.dhcp4.leases import Hold, Lease

KEYS = [bytes.fromhex(f"5254000000{i:02x}") for i in range(4)]


def lease(n: int, expires: float = 1000.0) -> Lease:
    return Lease(KEYS[n], 0x0A000064 + n, expires, Hold.BOUND)


@pytest.fixture
def journal(tmp_path: Path) -> LeaseJournal:
    made = LeaseJournal(tmp_path / "boot" / "prov.leases")
    made.open()
    return made


def again(journal: LeaseJournal) -> list[tuple[bytes, int, float]]:
    return list(LeaseJournal(journal.path).read())


def test_what_was_appended_is_read(journal: LeaseJournal) -> None:
    journal.append([lease(0), lease(1)])
    journal.append([lease(0, 2000.0)])
    assert again(journal) == [
        (KEYS[0], 0x0A000064, 1000.0),
        (KEYS[1], 0x0A000065, 1000.0),
        (KEYS[0], 0x0A000064, 2000.0),
    ]


def test_no_journal_yet(tmp_path: Path) -> None:
    assert list(LeaseJournal(tmp_path / "none").read()) == []


def test_a_torn_last_line_is_skipped_and_the_next_stands_alone(journal: LeaseJournal) -> None:
    journal.append([lease(0), lease(1)])
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-7])
    after = LeaseJournal(journal.path)
    assert [e[0] for e in after.read()] == [KEYS[0]]
    assert after.broken == 1
    after.open()
    after.append([lease(2)])
    assert [e[0] for e in again(after)] == [KEYS[0], KEYS[2]]


@pytest.mark.parametrize("at", [0, 5, 20, 28])
def test_a_flipped_byte_loses_one_line(journal: LeaseJournal, at: int) -> None:
    journal.append([lease(0), lease(1)])
    raw = bytearray(journal.path.read_bytes())
    raw[at] ^= 0x01
    journal.path.write_bytes(raw)
    assert KEYS[1] in [e[0] for e in again(journal)]
    assert KEYS[0] not in [e[0] for e in again(journal)]


def test_any_bytes_are_read(journal: LeaseJournal) -> None:
    journal.path.write_bytes(bytes(range(256)) * 8)
    reader = LeaseJournal(journal.path)
    assert list(reader.read()) == []
    assert reader.broken > 0


def test_a_full_disk_is_an_error_not_a_lie() -> None:
    full = LeaseJournal(Path("/dev/full"))
    full.open()
    with pytest.raises(OSError, match="No space"):
        full.append([lease(0)])


def test_compact_keeps_what_it_is_given(journal: LeaseJournal) -> None:
    for n in range(200):
        journal.append([lease(n % 4, 1000.0 + n)])
    journal.compact([lease(3)])
    journal.append([lease(1)])
    assert [e[0] for e in again(journal)] == [KEYS[3], KEYS[1]]
    assert not list(journal.path.parent.glob("*.new"))
