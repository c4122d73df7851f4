"""Whatever is done to the file, verify says so, or every record still reads as it was written."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from middlewared.kernel.errors import LogDamaged, MiddlewareError, PortFailed
from middlewared.kernel.event import Record
from middlewared.store import sqlite
from middlewared.store.log import LogStore
from middlewared.store.reader import LogReader
from middlewared.store.verify import verify

Chain = Callable[..., list[Record]]

COUNT = 400


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, chain: Chain) -> tuple[Path, list[Record]]:
    """A closed log of two terms, and what is in it."""
    path = tmp_path_factory.mktemp("written") / "log.db"
    log = LogStore.open(path)
    records = chain(COUNT // 2)
    records += chain(COUNT // 2, after=records[-1].position, term=2)
    log.append(records)
    log.close()
    return path, records


@pytest.fixture
def copy(written: tuple[Path, list[Record]], tmp_path: Path) -> Path:
    return Path(shutil.copy(written[0], tmp_path / "log.db"))


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for trigger in ("event_no_update", "event_no_delete", "event_dense"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def restore_triggers(path: Path, intact: Path) -> None:
    """Hide that somebody was there."""
    source, connection = sqlite3.connect(intact), sqlite3.connect(path)
    for (sql,) in source.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'"):
        connection.execute(sql)
    connection.close()
    source.close()


def test_an_intact_log_is_intact_to_its_head(written: tuple[Path, list[Record]]) -> None:
    path, records = written
    steps: list[int] = []
    assert verify(path, steps.append) == records[-1].position
    assert steps[-1] == COUNT


def test_verify_leaves_no_trace(copy: Path) -> None:
    before = copy.read_bytes()
    verify(copy)
    assert copy.read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["log.db"]


def test_a_log_that_is_being_written_is_intact(path: Path, chain: Chain) -> None:
    log = LogStore.open(path)
    head = log.append(chain(50))
    assert verify(path) == head
    log.close()


def test_a_page_that_a_power_loss_left_half_copied_is_read_from_the_wal_file(path: Path, chain: Chain) -> None:
    log = LogStore.open(path)
    head = log.append(chain(50))
    left = path.parent / "left"
    left.mkdir()
    for file in (path, sqlite.wal_of(path)):
        shutil.copy(file, left)
    log.close()
    data = bytearray((left / "log.db").read_bytes())
    data[2000] = 1
    (left / "log.db").write_bytes(data)
    assert verify(left / "log.db") == head


@pytest.mark.parametrize(
    ("statement", "seq", "what"),
    [
        ("UPDATE event SET term = 7 WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET origin = 'B' WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET kind = 'x' WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET version = 2 WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET actor = 'x' WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET request_id = 'x' WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET wall_ns = 0 WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET payload = x'7b7d' WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("UPDATE event SET prev = zeroblob(32) WHERE seq = 150", 150, "prev is not the hash"),
        ("UPDATE event SET hash = zeroblob(32) WHERE seq = 150", 150, "its bytes do not give its hash"),
        ("DELETE FROM event WHERE seq = 150", 150, "seq 151 where 150 belongs"),
        ("DELETE FROM event WHERE seq = 1", 1, "seq 2 where 1 belongs"),
        ("DELETE FROM term WHERE term = 2", COUNT // 2 + 1, "table of terms is wrong about term 2"),
        ("UPDATE term SET first_seq = 300 WHERE term = 2", COUNT // 2 + 1, "table of terms is wrong about term 2"),
        ("INSERT INTO term VALUES (3, 350)", 350, "table of terms is wrong about term 3"),
    ],
)
def test_every_change_is_named_with_its_seq(
    copy: Path, written: tuple[Path, list[Record]], statement: str, seq: int, what: str
) -> None:
    tamper(copy, statement)
    restore_triggers(copy, written[0])
    with pytest.raises(LogDamaged, match=what) as damage:
        verify(copy)
    assert damage.value.seq == seq
    assert damage.value.where == str(copy)


def test_two_records_that_changed_places_are_found(copy: Path, written: tuple[Path, list[Record]]) -> None:
    swap = "UPDATE event SET seq = {} WHERE seq = {}"
    tamper(copy, swap.format(9999, 20), swap.format(20, 21), swap.format(21, 9999))
    restore_triggers(copy, written[0])
    with pytest.raises(LogDamaged, match="seq 20: prev is not the hash"):
        verify(copy)


def test_a_missing_guard_is_found(copy: Path) -> None:
    tamper(copy)
    with pytest.raises(LogDamaged, match="the trigger event_no_update is missing or changed"):
        verify(copy)


def test_a_file_that_ends_too_early_is_found(copy: Path) -> None:
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size // 2)
    with pytest.raises(LogDamaged):
        verify(copy)


def test_an_empty_file_holds_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"")
    with pytest.raises(LogDamaged, match="it holds no log"):
        verify(tmp_path / "log.db")


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match="No such file"):
        verify(tmp_path / "log.db")
    with pytest.raises(PortFailed, match="Is a directory"):
        verify(tmp_path)


def flips(size: int, count: int, seed: int) -> Iterator[tuple[int, int]]:
    chosen = random.Random(seed)
    for _ in range(count):
        yield chosen.randrange(size), 1 << chosen.randrange(8)


def read_all(path: Path) -> list[Record]:
    with LogReader(path, untouched=True) as log:
        return log.since(0, COUNT * 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_is_found_or_harms_no_record(copy: Path, written: tuple[Path, list[Record]], seed: int) -> None:
    _, records = written
    intact = copy.read_bytes()
    found = 0
    for offset, bit in flips(len(intact), 150, seed):
        damaged = bytearray(intact)
        damaged[offset] ^= bit
        copy.write_bytes(damaged)
        try:
            verify(copy)
        except MiddlewareError as e:
            assert str(copy) in str(e)
            found += 1
        else:
            assert read_all(copy) == records, f"bit {bit} of byte {offset} changed a record and was not found"
    assert found >= 145, "the few bytes that are not looked at are named in verify.py and pages.py"


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_in_the_write_ahead_log_loses_nothing_silently(tmp_path: Path, chain: Chain, seed: int) -> None:
    """All but the last transaction, which looks like one that a power loss interrupted."""
    log = LogStore.open(tmp_path / "live" / "log.db")
    groups = [chain(3)]
    for _ in range(29):
        groups.append(chain(3, after=groups[-1][-1].position))
    for group in groups:
        log.append(group)
    records = [record for group in groups for record in group]
    copy = tmp_path / "copy" / "log.db"
    copy.parent.mkdir()
    shutil.copy(log.path, copy)
    intact = sqlite.wal_of(log.path).read_bytes()
    log.close()
    database = copy.read_bytes()
    for offset, bit in flips(len(intact), 60, seed):
        damaged = bytearray(intact)
        damaged[offset] ^= bit
        sqlite.remove(copy)
        copy.write_bytes(database)
        sqlite.wal_of(copy).write_bytes(damaged)
        try:
            verify(copy)
        except MiddlewareError:
            continue
        assert read_all(copy) in (records, records[:-3])
