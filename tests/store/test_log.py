"""log.db: what was acknowledged is there, in order, whatever happens to the process; nothing else gets in or out."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import msgspec
import pytest

from middlewared.kernel.errors import Diverged, LogDamaged, OutOfSpace, PortFailed
from middlewared.kernel.event import START, Record
from middlewared.store import schema
from middlewared.store.log import TAIL, LogStore

Chain = Callable[..., list[Record]]


@pytest.fixture
def log(path: Path) -> Iterator[LogStore]:
    store = LogStore.open(path)
    yield store
    store.close()


def execute(path: Path, *statements: str) -> None:
    """Change the database behind the product's back."""
    connection = sqlite3.connect(path)
    try:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


def test_a_new_log_is_empty_and_at_the_start(log: LogStore) -> None:
    assert log.head() == START
    assert log.since(0, 10) == []
    assert log.at(1) is None
    assert log.term_history() == []


def test_what_was_appended_is_read_back_byte_for_byte(log: LogStore, chain: Chain) -> None:
    records = chain(5)
    assert log.append(records[:2]) == records[1].position
    assert log.append(records[2:]) == records[4].position == log.head()
    assert log.since(0, 10) == records
    assert log.since(2, 2) == records[2:4]
    assert log.at(3) == records[2]


def test_the_headlines_of_a_span_are_read_without_the_rest(log: LogStore, chain: Chain) -> None:
    records = chain(5)
    log.append(records)
    assert log.headlines(1, 3) == [(r.seq, r.term, r.kind) for r in records[1:3]]
    assert log.headlines(5, 9) == []


def test_an_empty_group_changes_nothing(log: LogStore, chain: Chain) -> None:
    head = log.append(chain(1))
    assert log.append([]) == head


def test_the_log_is_still_there_when_it_is_opened_again(path: Path, chain: Chain) -> None:
    records = chain(TAIL + 20)
    first = LogStore.open(path)
    first.append(records)
    first.close()
    again = LogStore.open(path)
    assert again.since(0, 1000) == records
    more = chain(1, after=again.head())
    assert again.append(more) == more[0].position
    again.close()


def test_a_record_that_does_not_follow_is_refused_and_its_group_with_it(log: LogStore, chain: Chain) -> None:
    one, two, three = chain(3)
    log.append([one])
    foreign = msgspec.structs.replace(three, actor="somebody else")
    for group, why in (([three], "seq 3 where 2 belongs"), ([one], "seq 1 where"), ([two, foreign], "bytes do not")):
        with pytest.raises(Diverged, match=why):
            log.append(group)
    assert log.head() == one.position
    assert log.append([two, three]) == three.position


def test_the_history_names_the_last_record_of_every_term(log: LogStore, chain: Chain) -> None:
    first = chain(3, term=1)
    second = chain(1, after=first[-1].position, term=4)
    third = chain(2, after=second[-1].position, term=9)
    log.append(first[:2])
    log.append([*first[2:], *second])
    log.append(third)
    assert log.term_history() == [(1, 3, first[2].hash), (4, 4, second[0].hash), (9, 6, third[1].hash)]


def test_term_zero_is_a_term_like_any_other(path: Path, chain: Chain) -> None:
    log = LogStore.open(path)
    records = chain(2, term=0)
    log.append(records)
    log.close()
    log = LogStore.open(path)
    assert log.term_history() == [(0, 2, records[-1].hash)]
    assert log.verify() == records[-1].position
    log.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET actor = 'x' WHERE seq = 2",
        "UPDATE OR REPLACE event SET seq = 1 WHERE seq = 2",
        "DELETE FROM event WHERE seq = 3",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT * FROM event WHERE seq = 2",
        "INSERT OR IGNORE INTO event SELECT * FROM event WHERE seq = 2",
        "INSERT INTO event SELECT seq + 2, term, origin, kind, version, actor, request_id, wall_ns, payload, prev, hash"
        " FROM event WHERE seq = 3",
        "INSERT INTO event SELECT NULL, term, origin, kind, version, actor, request_id, wall_ns, payload, prev, hash"
        " FROM event WHERE seq = 3",
        "INSERT INTO event SELECT 0, term, origin, kind, version, actor, request_id, wall_ns, payload, prev, hash"
        " FROM event WHERE seq = 3",
    ],
)
def test_the_database_itself_refuses_to_change_the_past(
    log: LogStore, path: Path, chain: Chain, statement: str
) -> None:
    records = chain(3)
    log.append(records)
    with pytest.raises(sqlite3.IntegrityError, match="the log is"):
        execute(path, statement)
    assert log.since(0, 10) == records


def test_the_database_accepts_a_record_at_its_end(log: LogStore, path: Path, chain: Chain) -> None:
    log.append(chain(3))
    columns = "term, origin, kind, version, actor, request_id, wall_ns, payload, prev, hash"
    execute(path, f"INSERT INTO event SELECT 4, {columns} FROM event WHERE seq = 3")
    assert log.head().seq == 4


def test_a_commit_that_fails_is_never_believed_again(path: Path, chain: Chain) -> None:
    """A file that may not grow, by a limit of the process, is no full disk to SQLite but an error."""
    records = chain(600)
    log = LogStore.open(path)
    log.append(records[:1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
        with pytest.raises(PortFailed, match="commit the log"):
            log.append(records[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    with pytest.raises(PortFailed, match="commit the log"):
        log.append(records[1:])
    with pytest.raises(PortFailed, match="commit the log"):
        log.reopen()
    log.close()
    again = LogStore.open(path)
    assert again.since(0, 1000) == records[:1]
    assert again.append(records[1:]) == records[-1].position
    again.close()


def test_a_commit_without_room_is_refused_until_the_log_is_opened_anew_and_then_lands(path: Path, chain: Chain) -> None:
    records = chain(600)
    log = LogStore.open(path)
    log.append(records[:1])
    driver = log._writer.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA max_page_count = 1")
    for _ in range(2):
        with pytest.raises(OutOfSpace, match=r"commit the log: .* is full"):
            log.append(records[1:])
    assert log.reopen() == records[0].position
    assert log.append(records[1:]) == records[-1].position
    assert log.verify() == records[-1].position
    log.close()


def test_a_record_that_somebody_else_wrote_stops_the_writer(log: LogStore, path: Path, chain: Chain) -> None:
    records = chain(3)
    log.append(records[:2])
    columns = "term, origin, kind, version, actor, request_id, wall_ns, payload, prev, hash"
    execute(path, f"INSERT INTO event SELECT 3, {columns} FROM event WHERE seq = 2")
    with pytest.raises(PortFailed, match="commit the log"):
        log.append(records[2:])


def test_a_damaged_end_is_found_when_the_log_is_opened(path: Path, chain: Chain) -> None:
    log = LogStore.open(path)
    log.append(chain(TAIL * 2))
    log.close()
    seq = TAIL + 7
    execute(path, "DROP TRIGGER event_no_update", f"UPDATE event SET wall_ns = wall_ns + 1 WHERE seq = {seq}")
    with pytest.raises(LogDamaged, match=f"log.db: seq {seq}: its bytes"):
        LogStore.open(path)


def test_a_missing_end_of_the_table_of_terms_is_found_when_the_log_is_opened(path: Path, chain: Chain) -> None:
    log = LogStore.open(path)
    first = chain(3)
    log.append([*first, *chain(2, after=first[-1].position, term=2)])
    log.close()
    execute(path, "DELETE FROM term WHERE term = 2")
    with pytest.raises(LogDamaged, match="table of terms"):
        LogStore.open(path)


def test_a_log_of_a_newer_build_is_refused(path: Path) -> None:
    LogStore.open(path).close()
    execute(path, "UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(PortFailed, match=f"schema 0999 is newer than {schema.HEADS['log']}"):
        LogStore.open(path)


@pytest.mark.parametrize("kind", ["a file where the directory should be", "a directory where the log should be"])
def test_a_place_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, kind: str) -> None:
    if kind == "a file where the directory should be":
        (tmp_path / "data").write_text("")
        path, reason = tmp_path / "data" / "log.db", "Not a directory|File exists"
    else:
        path, reason = tmp_path / "log.db", "Is a directory"
        path.mkdir()
    with pytest.raises(PortFailed, match=reason) as error:
        LogStore.open(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database, but longer than the header of one " * 40)
    before = path.read_bytes()
    with pytest.raises(LogDamaged, match="not a database"):
        LogStore.open(path)
    assert path.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
from middlewared.kernel.event import Event, Stamp, seal
from middlewared.store.log import LogStore

class Beat(Event, frozen=True, kw_only=True):
    kind = "test.beat"
    n: int

log = LogStore.open(Path(sys.argv[1]))
head = log.head()
while True:
    group = []
    for _ in range(1 + head.seq % 7):
        stamp = Stamp(term=1 + head.seq // 50, origin="A", actor="x", request_id="r", wall_ns=0)
        group.append(seal(Beat(n=head.seq), head, stamp))
        head = group[-1].position
    log.append(group)
    sys.stdout.buffer.write(f"{head.seq} {head.hash.hex()}\\n".encode())
    sys.stdout.buffer.flush()
"""


def test_what_a_killed_writer_acknowledged_is_there_and_the_chain_is_whole(path: Path) -> None:
    acknowledged = 0
    for round_ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            bound = Timer(30, writer.kill)
            bound.start()
            try:
                for _ in range(60 + 40 * round_):
                    line = writer.stdout.readline()
                    assert line, "the writer ended by itself"
            finally:
                bound.cancel()
                writer.kill()
            # What it wrote to the pipe before it died was acknowledged, too.
            rest = writer.stdout.read().splitlines(keepends=True)
            seq, hash_ = next(text for text in reversed([line, *rest]) if text.endswith(b"\n")).split()
        log = LogStore.open(path)
        last = log.at(int(seq))
        assert last is not None
        assert last.hash.hex() == hash_.decode()
        assert log.head().seq >= int(seq) > acknowledged
        assert log.verify() == log.head()
        acknowledged = int(seq)
        log.close()


@pytest.mark.parametrize("seq", [1, 2, 3, 4])
def test_a_checked_read_names_the_record_that_is_not_as_it_was_written(log: LogStore, chain: Chain, seq: int) -> None:
    log.append(chain(5))
    whole = log.since(0, 5)
    assert log.checked(0, 5) == (START, whole)
    assert log.checked(seq, 5) == (whole[seq - 1].position, whole[seq:])
    assert log.checked(9, 5) == (START, [])
    execute(log.path, "DROP TRIGGER event_no_update", f"UPDATE event SET actor = 'mallory' WHERE seq = {seq}")
    for after in (seq - 1, seq):
        with pytest.raises(LogDamaged, match=f"seq {seq}: its bytes do not give its hash"):
            log.checked(after, 5)
