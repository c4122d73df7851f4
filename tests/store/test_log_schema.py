"""log.db keeps its first schema until a record needs the next: the build before this one opens it till then."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from middlewared.kernel.errors import Diverged, LogDamaged
from middlewared.kernel.event import Record
from middlewared.store import quarantine
from middlewared.store.log import LogStore
from middlewared.store.reader import LogReader
from middlewared.store.verify import verify

Chain = Callable[..., list[Record]]
METHOD = "shelf.fill"


@pytest.fixture
def log(path: Path, chain: Chain) -> Iterator[LogStore]:
    """A log of three records of the first format."""
    store = LogStore.open(path)
    store.append(chain(3))
    yield store
    store.close()


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def columns(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return len(connection.execute("PRAGMA table_info('event')").fetchall())


def test_records_without_a_method_leave_the_file_as_the_build_before_made_it(log: LogStore) -> None:
    assert (revision(log.path), columns(log.path)) == ("0001", 11)


def test_the_first_record_with_a_method_brings_its_column_and_every_record_is_read_as_before(
    log: LogStore, chain: Chain
) -> None:
    before = log.since(0, 10)
    added = chain(2, log.head(), method=METHOD)
    added += chain(1, added[-1].position)
    assert log.append(added) == added[-1].position
    assert (revision(log.path), columns(log.path)) == ("0002", 12)
    assert log.since(0, 10) == before + added
    assert log.at(4) == added[0]
    assert log.append(chain(1, log.head())).seq == 7, "records without a method go on"
    log.close()
    assert verify(log.path).seq == 7


def test_a_reader_that_has_the_file_open_sees_the_new_column(log: LogStore, chain: Chain) -> None:
    with LogReader(log.path) as reader:
        assert len(reader.since(0, 10)) == 3
        (added,) = chain(1, log.head(), method=METHOD)
        log.append([added])
        assert reader.since(3, 10) == [added]
        assert reader.at(4) == added


def test_a_group_that_is_refused_leaves_the_schema(log: LogStore, chain: Chain) -> None:
    with pytest.raises(Diverged):
        log.append(chain(1, method=METHOD))
    assert revision(log.path) == "0001"


def test_the_guards_stay(log: LogStore, chain: Chain) -> None:
    log.append(chain(1, log.head(), method=METHOD))
    with closing(sqlite3.connect(log.path)) as connection:
        for statement in (
            "UPDATE event SET method = ''",
            "DELETE FROM event",
            "INSERT OR REPLACE INTO event SELECT * FROM event WHERE seq = 2",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


def test_a_migrated_file_is_opened_as_it_is(log: LogStore, chain: Chain) -> None:
    log.append(chain(1, log.head(), method=METHOD))
    log.close()
    with closing(LogStore.open(log.path)) as again:
        assert again.append(chain(1, again.head(), method=METHOD)).seq == 5


def test_a_changed_method_is_found(log: LogStore, chain: Chain) -> None:
    log.append(chain(1, log.head(), method=METHOD))
    log.close()
    with closing(sqlite3.connect(log.path)) as connection:
        (guard,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'event_no_update'").fetchone()
        connection.execute("DROP TRIGGER event_no_update")
        connection.execute("UPDATE event SET method = '' WHERE seq = 4")
        connection.execute(guard)
        connection.commit()
    with pytest.raises(LogDamaged, match="seq 4: its bytes do not give its hash"):
        verify(log.path)


def test_a_cut_of_records_with_a_method_sets_them_aside_whole(log: LogStore, chain: Chain, tmp_path: Path) -> None:
    after = log.head()
    tail = chain(2, after, method=METHOD)
    log.append(tail)
    done = log.cut(after, tmp_path / "aside")
    assert done is not None
    assert list(quarantine.read(tmp_path / "aside" / done.file)) == tail
    assert log.head() == after
