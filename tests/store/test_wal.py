"""What SQLite would drop silently from a -wal file is told from what a power loss interrupted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.store.wal import fault_in, pages_in

HEADER = 32
FRAME = 24 + 4096


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[Path]:
    """The -wal file of a database with ten transactions of one frame each after the first, still open."""
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    for _ in range(10):
        connection.execute("INSERT INTO t VALUES (NULL)")
    yield tmp_path / "x.db-wal"
    connection.close()


def damaged(wal: Path, offset: int) -> Path:
    data = bytearray(wal.read_bytes())
    data[offset] ^= 0x10
    copy = wal.with_name("copy-wal")
    copy.write_bytes(data)
    return copy


def frames(wal: Path) -> int:
    return (wal.stat().st_size - HEADER) // FRAME


def test_a_whole_file_and_a_missing_one_have_no_fault(wal: Path) -> None:
    assert fault_in(wal) is None
    assert fault_in(wal.with_name("nothing")) is None


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 24], ids=["magic", "version", "page size", "salt", "checksum"])
def test_a_header_that_is_not_what_was_written_is_a_fault(wal: Path, offset: int) -> None:
    fault = fault_in(damaged(wal, offset))
    assert fault is not None
    assert "header" in fault


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 24, 2000], ids=["page", "commit", "salt", "checksum", "body", "mid"])
def test_a_wrong_frame_before_others_is_a_fault_and_is_named(wal: Path, offset: int) -> None:
    fault = fault_in(damaged(wal, HEADER + 4 * FRAME + offset))
    assert fault is not None
    assert fault.startswith("frame 5 ")


def test_a_last_transaction_that_was_not_written_whole_is_no_fault(wal: Path) -> None:
    last = HEADER + (frames(wal) - 1) * FRAME
    assert fault_in(damaged(wal, last + 100)) is None
    torn = wal.with_name("torn-wal")
    torn.write_bytes(wal.read_bytes()[: last + 1000])
    assert fault_in(torn) is None


def test_frames_of_an_older_generation_behind_the_end_are_no_fault(wal: Path) -> None:
    connection = sqlite3.connect(wal.with_name("x.db"), isolation_level=None)
    before = wal.stat().st_size
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (NULL)")
    assert wal.stat().st_size == before, "the file is overwritten from its head, the old frames are still behind"
    assert fault_in(wal) is None
    connection.close()


def test_the_pages_of_whole_transactions_are_read_from_the_wal_file(wal: Path) -> None:
    assert pages_in(wal) == {1, 2}
    assert pages_in(damaged(wal, HEADER + 24 + 2000)) == frozenset()
    assert pages_in(wal.with_name("nothing")) == frozenset()
