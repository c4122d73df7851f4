"""state.db: the projections, one table a noun, and how far the log is folded into them.

Rows and that position change in one transaction, so the file always shows one point of the log. It is written with
synchronous=NORMAL: a power loss may take it back to an earlier point, never to a mixed one, and what is missing is
folded again. Deleting it loses nothing that the log does not hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, insert, select, tuple_, update
from sqlalchemy.dialects.sqlite import dialect

from middlewared.kernel.errors import BadPlugin, LogDamaged
from middlewared.kernel.event import START, Position
from middlewared.plugin import Noun, Row
from middlewared.store import schema, sqlite

Key = tuple[object, ...]


class Applied(NamedTuple):
    """position: the last record that is folded in. pair_seq: the last seq known durable on both controllers."""

    position: Position
    pair_seq: int


class StateStore:
    """The open state.db. Synchronous; `apply` belongs to one thread, the rest to any."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._readers = sqlite.reader(path)
        self._rows: dict[str, dict[Key, Row]] = {}

    @classmethod
    def open(cls, path: Path, nouns: Iterable[Noun[Any]]) -> StateStore:
        """Open the projections of `nouns` at `path`; a new file begins with every noun's initial state.

        Raises LogDamaged when the file cannot be used for these nouns (it can be deleted), PortFailed when it cannot
        be opened or written, BadPlugin for a noun whose table has no primary key.
        """
        nouns = list(nouns)
        for noun in nouns:
            if not noun.table.primary_key.columns:
                raise BadPlugin(f"noun {noun.name}: its table {noun.table.name} has no primary key")
        with sqlite.sentences(path, f"open {path}"):
            store = cls(path, sqlite.writer(path, "NORMAL"))
            try:
                schema.bring_current(store._engine, "state")
                with store._engine.begin() as connection:
                    store._begin(connection, nouns)
            except BaseException:
                store.close()
                raise
        return store

    def close(self) -> None:
        self._readers.dispose()
        self._engine.dispose()

    def apply(self, changed: Mapping[Noun[Any], Any], applied: Position, pair_seq: int) -> None:
        """Project the new states of the nouns that changed; everything up to `applied` is in them.

        Raises PortFailed or LogDamaged; the file then holds what it held before.
        """
        rows = {noun: _by_key(noun.table, noun.project(state)) for noun, state in changed.items()}
        values = {"seq": applied.seq, "term": applied.term, "hash": applied.hash, "pair_seq": pair_seq}
        with sqlite.sentences(self.path, "write the projections"), self._engine.begin() as connection:
            for noun, after in rows.items():
                _replace(connection, noun.table, self._rows[noun.name], after)
            connection.execute(update(schema.applied).values(values))
        self._rows.update({noun.name: after for noun, after in rows.items()})

    def applied(self) -> Applied:
        with sqlite.sentences(self.path, "read the projections"):
            return _applied(self._readers)

    def load(self, nouns: Iterable[Noun[Any]]) -> dict[str, Any]:
        """The state of each noun, by its name."""
        with sqlite.sentences(self.path, "read the projections"), self._readers.connect() as connection:
            return {noun.name: noun.restore(_rows_of(connection, noun.table)) for noun in nouns}

    def digest(self, nouns: Iterable[Noun[Any]]) -> str:
        """SHA-256 over every row of the nouns' tables, in hex: equal on two controllers that show the same state.

        Rows count by their content alone: neither their order nor anything of SQLite's own is in it.
        """
        total = hashlib.sha256()
        with sqlite.sentences(self.path, "read the projections"), self._readers.connect() as connection:
            for table in sorted((noun.table for noun in nouns), key=lambda table: table.name):
                columns = sorted(str(column.name) for column in table.columns)
                total.update(msgspec.json.encode([str(table.name), columns]) + b"\n")
                rows = _rows_of(connection, table)
                lines = sorted(msgspec.json.encode([row[name] for name in columns], order="sorted") for row in rows)
                total.update(b"".join(line + b"\n" for line in lines))
        return total.hexdigest()

    def _begin(self, connection: Connection, nouns: list[Noun[Any]]) -> None:
        fresh = connection.execute(select(schema.applied)).one_or_none() is None
        for noun in nouns:
            if fresh:
                # The tables of other people's plugins are in no revision of ours.
                noun.table.create(connection, checkfirst=True)
            _check_table(connection, noun.table, self.path)
            rows = _by_key(noun.table, _rows_of(connection, noun.table))
            if fresh:
                initial = _by_key(noun.table, noun.project(noun.initial))
                _replace(connection, noun.table, rows, initial)
                rows = initial
            self._rows[noun.name] = rows
        if fresh:
            at = {"id": 1, "seq": START.seq, "term": START.term, "hash": START.hash, "pair_seq": 0}
            connection.execute(insert(schema.applied), at)


def applied_in(path: Path) -> Applied:
    """How far the state.db at `path` is, without touching it. Raises LogDamaged, PortFailed."""
    engine = sqlite.reader(path, untouched=True)
    try:
        with sqlite.sentences(path, "read the projections"):
            return _applied(engine)
    finally:
        engine.dispose()


def _applied(engine: Engine) -> Applied:
    with engine.connect() as connection:
        row = connection.execute(select(schema.applied)).one_or_none()
    if row is None:
        return Applied(START, 0)
    return Applied(Position(row.seq, row.term, row.hash), row.pair_seq)


def _check_table(connection: Connection, table: Table, path: Path) -> None:
    found = {
        (name, type_, bool(not_null), key > 0)
        for _, name, type_, not_null, _, key in connection.exec_driver_sql(f"PRAGMA table_info('{table.name}')")
    }
    wanted = {
        (column.name, column.type.compile(dialect()), not column.nullable, column.primary_key)
        for column in table.columns
    }
    if found != wanted:
        names = ", ".join(sorted({str(column[0]) for column in found ^ wanted}))
        raise LogDamaged(str(path), 0, f"table {table.name} is not as this build has it: {names}")


def _rows_of(connection: Connection, table: Table) -> list[Row]:
    order = list(table.primary_key.columns)
    rows = connection.execute(select(table).order_by(*order))
    # The keys are a subclass of str, which msgspec does not take for text.
    return [{str(name): value for name, value in row._mapping.items()} for row in rows]


def _by_key(table: Table, rows: Iterable[Row]) -> dict[Key, Row]:
    key = [column.name for column in table.primary_key.columns]
    return {tuple(row[name] for name in key): row for row in rows}


def _replace(connection: Connection, table: Table, before: dict[Key, Row], after: dict[Key, Row]) -> None:
    gone = [key for key, row in before.items() if after.get(key) != row]
    new = [row for key, row in after.items() if before.get(key) != row]
    for key in gone:
        connection.execute(delete(table).where(tuple_(*table.primary_key.columns) == key))
    if new:
        connection.execute(insert(table), [dict(row) for row in new])
