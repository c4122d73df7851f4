"""Rows of log.db and the records that they hold: the only statements about table `event` besides the cut's.

What every commit and every walk over the log runs goes straight to the driver: SQLAlchemy's part of a commit would be a
third of it (docs/log.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import ClauseElement, Connection, bindparam, insert
from sqlalchemy.dialects.sqlite import dialect

from middlewared.kernel.audit import Filter
from middlewared.kernel.errors import LogDamaged
from middlewared.kernel.event import START, Headline, Position, Record, chained
from middlewared.store import schema, sqlite


def _sql(statement: ClauseElement) -> str:
    # Given as text with tuples, a row costs a third of what Core's dictionaries cost (docs/log.md has the figures).
    return str(statement.compile(dialect=dialect(paramstyle="qmark")))


_INSERT = _sql(insert(schema.event))
_FIRST_COLUMNS = [column.name for column in schema.event.columns if column is not schema.event.c.method]
_INSERT_FIRST = _sql(insert(schema.event).values({name: bindparam(name) for name in _FIRST_COLUMNS}))
_INSERT_TERM = _sql(insert(schema.term))
_SELECT = "SELECT * FROM event"
"""Every column that the file has, in Record's order. One of the first schema lacks the last, which has a default."""
_HEAD = "SELECT seq, term, hash FROM event ORDER BY seq DESC LIMIT 1"
_HEADLINES = "SELECT seq, term, kind FROM event WHERE seq > ? AND seq <= ? ORDER BY seq"
_TERMS = """
    SELECT ended.term, event.seq, event.hash
    FROM (SELECT term, lead(first_seq) OVER (ORDER BY term) - 1 AS last FROM term) AS ended
    JOIN event ON event.seq = coalesce(ended.last, (SELECT max(seq) FROM event))
    ORDER BY ended.term
"""


def put(connection: Connection, records: Sequence[Record], before: Position) -> None:
    """Insert `records` after `before`, and note the terms that begin with them.

    A file of the first schema takes no record with a method: see need_method.
    """
    if not records:
        return
    cursor = connection.connection.cursor()
    rows = [msgspec.structs.astuple(record) for record in records]
    if need_method(records):
        sqlite.insert(cursor, _INSERT, rows)
    else:
        sqlite.insert(cursor, _INSERT_FIRST, [row[:-1] for row in rows])
    last = before.term if before.seq > 0 else None
    for record in records:
        if record.term != last:
            cursor.execute(_INSERT_TERM, (record.term, record.seq))
            last = record.term


def need_method(records: Sequence[Record]) -> bool:
    """Whether they can stand only in a file that holds methods."""
    return any(record.method for record in records)


def head(connection: Connection) -> Position:
    cursor = connection.connection.cursor()
    # All of one row: a statement that is not read to its end would keep this connection at an old state of the file.
    rows = cursor.execute(_HEAD).fetchall()
    return Position(*rows[0]) if rows else START


def since(connection: Connection, path: Path, seq: int, limit: int) -> list[Record]:
    """The records after `seq`, at most `limit`. Raises LogDamaged for a value of the wrong type."""
    cursor = connection.connection.cursor()
    cursor.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
    rows = cursor.fetchall()
    try:
        return msgspec.convert(rows, list[Record], builtin_types=(bytes,))
    except msgspec.ValidationError:
        return [_record(row, path) for row in rows]


def of_kinds(connection: Connection, path: Path, kinds: Sequence[str], seq: int, upto: int, limit: int) -> list[Record]:
    """As `since`, of some kinds only, up to record `upto`."""
    cursor = connection.connection.cursor()
    marks = ",".join("?" * len(kinds))
    cursor.execute(
        f"{_SELECT} WHERE seq > ? AND seq <= ? AND kind IN ({marks}) ORDER BY seq LIMIT ?", (seq, upto, *kinds, limit)
    )
    return [_record(row, path) for row in cursor.fetchall()]


def sought(connection: Connection, path: Path, wanted: Filter, before: int, limit: int) -> list[Record]:
    """The newest records below seq `before` that are looked for, at the cost of a walk back to the last of them."""
    tests: list[tuple[str, object]] = [("seq < ?", before)]
    if wanted.since_ns is not None:
        tests.append(("wall_ns >= ?", wanted.since_ns))
    if wanted.until_ns is not None:
        tests.append(("wall_ns <= ?", wanted.until_ns))
    if wanted.node is not None:
        tests.append(("origin = ?", wanted.node))
    if wanted.user is not None:
        tests.append(("substr(actor, 1, instr(actor || '@', '@') - 1) = ?", wanted.user))
    if wanted.request_id is not None:
        tests.append(("substr(request_id, 1, instr(request_id || '/', '/') - 1) = ?", wanted.request_id))
    if wanted.method is not None:
        if not _holds_methods(connection):
            return []
        tests.append(("method = ?", wanted.method))
    where = " AND ".join(test for test, _ in tests)
    cursor = connection.connection.cursor()
    cursor.execute(
        f"{_SELECT} WHERE {where} ORDER BY seq DESC LIMIT ?",
        (*(value for _, value in tests), limit),
    )
    return [_record(row, path) for row in cursor.fetchall()]


def _holds_methods(connection: Connection) -> bool:
    columns = connection.exec_driver_sql("PRAGMA table_info(event)").all()
    return any(column[1] == "method" for column in columns)


def at(connection: Connection, path: Path, seq: int) -> Record | None:
    row = connection.exec_driver_sql(f"{_SELECT} WHERE seq = ?", (seq,)).one_or_none()
    return None if row is None else _record(tuple(row), path)


def headlines(connection: Connection, after: int, upto: int) -> list[Headline]:
    """Of the records after `after`, up to `upto`, in order."""
    return [Headline(*row) for row in connection.exec_driver_sql(_HEADLINES, (after, upto))]


def term_history(connection: Connection) -> list[tuple[int, int, bytes]]:
    """(term, last seq, hash) of every term, oldest first. Its cost is the number of terms, not of records."""
    return [(term, last_seq, hash_) for term, last_seq, hash_ in connection.exec_driver_sql(_TERMS)]


def check_chain(records: Sequence[Record], before: Position, path: Path) -> Position:
    """The position after `records`, each of which must follow the one before. Raises LogDamaged at the first."""
    end, why = chained(records, before)
    if why is not None:
        raise LogDamaged(str(path), end.seq + 1, why)
    return end


def _record(row: Sequence[object], path: Path) -> Record:
    try:
        return msgspec.convert(row, Record, builtin_types=(bytes,))
    except msgspec.ValidationError as e:
        seq = row[0] if isinstance(row[0], int) else 0
        raise LogDamaged(str(path), seq, f"a column has the wrong type: {e}") from None
