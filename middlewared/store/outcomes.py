"""Rows of state.db that say what became of each command; written with `applied`, only what changed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects.sqlite import dialect

from middlewared.kernel.event import Record
from middlewared.kernel.outcomes import LIMIT, Delta, LogTime, Outcome, Outcomes
from middlewared.store import schema, sqlite

_INSERT = str(insert(schema.outcome).prefix_with("OR REPLACE").compile(dialect=dialect(paramstyle="qmark")))
_BATCH = 4096
RECORDS = 2 * LIMIT
"""How much of the log is folded for a file that has no outcomes yet: enough for LIMIT commands of two records each."""


class Records(Protocol):
    """A log, as far as it is read here."""

    def since(self, seq: int, limit: int) -> Sequence[Record]: ...


def write(connection: Connection, delta: Delta) -> None:
    rows = [(o.first, o.last, o.term, o.kind, o.at_ns, o.method, *key) for key, o in delta.ended]
    if rows:
        sqlite.insert(connection.connection.cursor(), _INSERT, rows)
    connection.execute(delete(schema.outcome).where(schema.outcome.c.first < delta.oldest))
    time = delta.time
    connection.execute(
        update(schema.outcome_time).values(seq=time.seq, log_ns=time.log_ns, wall_ns=time.wall_ns),
    )


def read(connection: Connection) -> Outcomes:
    # Straight from the driver, as the log is read: there may be LIMIT rows.
    cursor = connection.connection.cursor()
    cursor.execute(str(select(schema.outcome).order_by(schema.outcome.c.first)))
    same: dict[str, str] = {}
    kept = (
        (
            (request_id, same.setdefault(name, name)),
            Outcome(first, last, term, same.setdefault(kind, kind), at_ns, same.setdefault(method, method)),
        )
        for first, last, term, kind, at_ns, method, request_id, name in cursor.fetchall()
    )
    time = connection.execute(select(schema.outcome_time)).one()
    return Outcomes(kept, LogTime(time.seq, time.log_ns, time.wall_ns))


def folded(log: Records, upto: int) -> Outcomes:
    """From the log alone: what became of the last commands up to record `upto`."""
    found = Outcomes()
    at = max(0, upto - RECORDS)
    while at < upto and (batch := log.since(at, min(_BATCH, upto - at))):
        found.fold(batch)
        at = batch[-1].seq
    return found
