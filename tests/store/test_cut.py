"""The cut: exact, set aside before it is taken off, and never into what both controllers hold."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from middlewared.kernel.errors import Diverged, PortFailed
from middlewared.kernel.event import START, Position, Record
from middlewared.store import quarantine, schema
from middlewared.store.log import LogStore

Chain = Callable[..., list[Record]]


@pytest.fixture
def log(path: Path) -> Iterator[LogStore]:
    store = LogStore.open(path)
    yield store
    store.close()


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    return tmp_path / "data" / "quarantine"


def triggers(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")}
    finally:
        connection.close()


def test_the_tail_is_in_the_file_and_the_rest_in_the_log(log: LogStore, aside: Path, chain: Chain) -> None:
    shared = chain(5, term=2)
    tail = chain(2500, after=shared[-1].position, term=3)
    log.append([*shared, *tail])
    done = log.cut(shared[-1].position, aside)
    assert done is not None
    assert (done.first, done.last, done.n, done.file) == (6, 2505, 2500, "3-6-2505-a0.log")
    assert list(quarantine.read(aside / done.file)) == tail
    assert done.digest == hashlib.sha256((aside / done.file).read_bytes()).hexdigest()
    assert log.head() == shared[-1].position
    assert log.since(0, 10_000) == shared
    assert log.term_history() == [(2, 5, shared[-1].hash)]
    assert log.cuts() == [done]
    assert log.verify() == shared[-1].position


def test_after_a_cut_the_log_grows_again_and_refuses_to_be_changed(log: LogStore, aside: Path, chain: Chain) -> None:
    shared = chain(3)
    log.append([*shared, *chain(4, after=shared[-1].position, term=5)])
    log.cut(shared[-1].position, aside)
    other = chain(4, after=shared[-1].position, term=6)
    assert log.append(other) == other[-1].position
    assert triggers(log.path) == {schema.NO_DELETE, schema.NO_UPDATE, schema.DENSE}
    assert log.verify() == other[-1].position


def test_a_whole_log_can_be_set_aside(log: LogStore, aside: Path, chain: Chain) -> None:
    records = chain(4)
    log.append(records)
    done = log.cut(START, aside)
    assert done is not None
    assert log.head() == START
    assert list(quarantine.read(aside / done.file)) == records


def test_nothing_is_cut_where_nothing_follows(log: LogStore, aside: Path, chain: Chain) -> None:
    head = log.append(chain(3))
    assert log.cut(head, aside) is None
    assert log.cuts() == []
    assert not aside.exists()


def test_a_record_that_both_promised_to_keep_is_never_cut(log: LogStore, aside: Path, chain: Chain) -> None:
    records = chain(6)
    log.append(records)
    with pytest.raises(Diverged, match="seq 4 to 5 are durable on both"):
        log.cut(records[2].position, aside, pair_seq=5)
    assert log.since(0, 10) == records
    assert log.cut(records[4].position, aside, pair_seq=5) is not None


def test_a_position_that_is_not_in_the_log_cuts_nothing(log: LogStore, aside: Path, chain: Chain) -> None:
    records = chain(3)
    log.append(records)
    for foreign in (Position(2, 1, bytes(32)), Position(2, 9, records[1].hash), Position(7, 1, records[1].hash)):
        with pytest.raises(Diverged, match="is not in this log"):
            log.cut(foreign, aside)
    assert log.since(0, 10) == records


def test_two_tails_of_the_same_numbers_are_both_kept(log: LogStore, aside: Path, chain: Chain) -> None:
    shared = chain(2)
    log.append(shared)
    first = chain(2, after=shared[-1].position)
    log.append(first)
    one = log.cut(shared[-1].position, aside)
    branch = chain(2, after=Position(3, 1, shared[-1].hash))
    second = chain(2, after=shared[-1].position)
    assert branch != second
    log.append(second)
    again = log.cut(shared[-1].position, aside)
    assert one is not None
    assert again is not None
    assert again.file == one.file, "the same bytes need no second file"
    assert len(log.cuts()) == 2
    (aside / one.file).rename(aside / "kept")
    (aside / one.file).write_bytes(b"something else of that name\n")
    log.append(second)
    third = log.cut(shared[-1].position, aside)
    assert third is not None
    assert third.file == f"1-3-4-a0-{third.digest[:16]}.log"
    assert (aside / one.file).read_bytes() == b"something else of that name\n"


def test_a_place_that_cannot_be_written_leaves_the_log_whole(log: LogStore, tmp_path: Path, chain: Chain) -> None:
    records = chain(5)
    log.append(records)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    with pytest.raises(PortFailed, match="set records aside"):
        log.cut(records[1].position, blocked)
    assert log.since(0, 10) == records
    assert triggers(log.path) == {schema.NO_DELETE, schema.NO_UPDATE, schema.DENSE}
    assert log.append(chain(1, after=records[-1].position)).seq == 6
