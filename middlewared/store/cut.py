"""The only way out of the log: a tail that the other controller does not share is set aside, then taken off.

First the tail is written to a quarantine file, exact and durable. Then one transaction: the rows about to go are
compared with that file once more, the trigger that refuses DELETE is dropped, the rows are deleted, the cut is noted,
the trigger is made again. A crash before the commit leaves the log whole and a spare file; after it, the cut is done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sqlalchemy import Connection, delete, insert, select

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.event import Position, Record
from middlewared.store import quarantine, schema
from middlewared.store.records import head, since

_BATCH = 1024


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A tail that was cut off. at: wall clock, ns, for display. file: its name in quarantine; digest: its SHA-256."""

    at: int
    first: int
    last: int
    n: int
    digest: str
    file: str


def cut_tail(connection: Connection, path: Path, after: Position, directory: Path, committed_seq: int) -> Cut | None:
    """Set the records after `after` aside in `directory` and delete them; None when there are none.

    connection: the writer's, outside a transaction. committed_seq: up to where they are known to have been answered.
    Raises PortFailed, and SQLite's errors.
    """
    with connection.begin():
        last = head(connection)
        if last.seq <= after.seq:
            return None
        answered = max(0, min(committed_seq, last.seq) - after.seq)
        name = quarantine.name_of(last, after.seq + 1, answered)
        file, digest = quarantine.write(directory, name, _tail(connection, path, after.seq))
    done = Cut(
        at=time.time_ns(),
        first=after.seq + 1,
        last=last.seq,
        n=last.seq - after.seq,
        digest=digest,
        file=file.name,
    )
    with connection.begin():
        _take_off(connection, path, file, done)
    return done


def _take_off(connection: Connection, path: Path, file: Path, done: Cut) -> None:
    rows = hashlib.sha256()
    for record in _tail(connection, path, done.first - 1):
        rows.update(quarantine.line(record))
    try:
        aside = quarantine.sha256(file)
    except OSError as e:
        raise PortFailed("cut the log", f"{file}: {e.strerror}") from None
    if not aside == rows.hexdigest() == done.digest:
        raise PortFailed("cut the log", f"{file} does not hold what would be cut")
    connection.exec_driver_sql("DROP TRIGGER event_no_delete")
    connection.execute(delete(schema.event).where(schema.event.c.seq >= done.first))
    connection.execute(delete(schema.term).where(schema.term.c.first_seq >= done.first))
    connection.execute(insert(schema.cut), msgspec.structs.asdict(done))
    connection.exec_driver_sql(schema.NO_DELETE)


def _tail(connection: Connection, path: Path, seq: int) -> Iterator[Record]:
    while records := since(connection, path, seq, _BATCH):
        yield from records
        seq = records[-1].seq


def noted(connection: Connection) -> list[Cut]:
    """Every cut that was ever made in this log, oldest first."""
    table = schema.cut
    columns = [table.c[name] for name in Cut.__struct_fields__]
    return [Cut(**row._mapping) for row in connection.execute(select(*columns).order_by(table.c.id))]
