"""state.db: the projections, one table a noun, and how far the log is folded into them.

Rows, that position and the digest of the rows change in one transaction, so the file always shows one point of the log
and says what it must show. It is written with synchronous=NORMAL: a power loss may take it back to an earlier point,
never to a mixed one, and what is missing is folded again. Deleting it loses nothing that the log does not hold.

The digest is kept up from the rows that change. At every open it is made from all rows and compared with the one that
was stored beside them: a file that was changed by anything else is noticed before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, delete, insert, select, tuple_, update
from sqlalchemy import Row as SqlRow
from sqlalchemy.dialects.sqlite import dialect

from middlewared.kernel.errors import BadPlugin, LogDamaged
from middlewared.kernel.event import START, Position
from middlewared.kernel.outcomes import Delta, Outcomes
from middlewared.plugin import Noun, Row
from middlewared.store import outcomes, schema, sqlite
from middlewared.store.rows import Key, Rows, shape_of

UNKNOWN = -1


class Applied(NamedTuple):
    """position: the last record that is folded in.

    pair_seq: the last seq known durable on both controllers; UNKNOWN where not even that all of it was committed is.
    """

    position: Position
    pair_seq: int


class RowsChanged(LogDamaged):
    """The rows in the file are not those that were written there. rows: what it shows; applied: what it claims."""

    def __init__(self, path: Path, rows: Rows, applied: Applied, stored: str) -> None:
        super().__init__(str(path), 0, f"its rows give the digest {rows.digest}, but {stored} was written with them")
        self.rows = rows
        self.applied = applied


class StateStore:
    """The open state.db. Synchronous; `project` and `write` belong to one thread, the rest to any.

    rows: the projections in memory; the file follows them. shape: names the tables (kernel.digest.shape).
    """

    def __init__(self, path: Path, engine: Engine, nouns: Iterable[Noun[Any]]) -> None:
        self.path = path
        tables = [noun.table for noun in nouns]
        self.rows = Rows(tables)
        self.shape = shape_of(tables)
        self._engine = engine
        self._readers = sqlite.reader(path)

    @classmethod
    def open(cls, path: Path, nouns: Iterable[Noun[Any]]) -> StateStore:
        """Open the projections of `nouns` at `path`; a new file begins with every noun's initial state.

        Raises LogDamaged when the file cannot be used for these nouns (it can be deleted), RowsChanged when its rows
        are not those that were written, PortFailed when it cannot be opened or written, BadPlugin for a noun whose
        table has no primary key.
        """
        nouns = list(nouns)
        for noun in nouns:
            if not noun.table.primary_key.columns:
                raise BadPlugin(f"noun {noun.name}: its table {noun.table.name} has no primary key")
        with sqlite.sentences(path, f"open {path}"):
            store = cls(path, sqlite.writer(path, "NORMAL"), nouns)
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

    def project(self, changed: Mapping[Noun[Any], Any]) -> str:
        """Take the new states of the nouns that changed into `rows`. Returns the digest."""
        for noun, state in changed.items():
            self.rows.replace(noun.table.name, noun.project(state))
        return self.rows.digest

    def write(self, applied: Position, pair_seq: int, commands: Delta | None = None) -> None:
        """Bring the file to what `rows` holds; everything up to `applied` is in them.

        commands: what became of the commands up to there, as far as the file does not say it; None: the file goes on
        saying what it said, and `outcomes` up to which record that is.

        Raises PortFailed or LogDamaged; the file then holds what it held before, and the next write makes up for it.
        """
        values = {
            "seq": applied.seq,
            "term": applied.term,
            "hash": applied.hash,
            "pair_seq": pair_seq,
            "digest": self.rows.digest,
            "shape": self.shape,
        }
        with sqlite.sentences(self.path, "write the projections"), self._engine.begin() as connection:
            for name, changes in self.rows.unwritten.items():
                _write(connection, self.rows.table(name), changes)
            if commands is not None:
                outcomes.write(connection, commands)
            connection.execute(update(schema.applied).values(values))
        self.rows.written()

    def apply(
        self, changed: Mapping[Noun[Any], Any], applied: Position, pair_seq: int, commands: Delta | None = None
    ) -> None:
        """`project`, then `write`."""
        self.project(changed)
        self.write(applied, pair_seq, commands)

    def applied(self) -> Applied:
        with sqlite.sentences(self.path, "read the projections"):
            return _applied(self._readers)

    def load(self, nouns: Iterable[Noun[Any]]) -> dict[str, Any]:
        """The state of each noun, by its name."""
        with sqlite.sentences(self.path, "read the projections"), self._readers.connect() as connection:
            return {noun.name: noun.restore(_rows_of(connection, noun.table)) for noun in nouns}

    @property
    def digest(self) -> str:
        """Of every row (kernel.digest), in hex: equal on two controllers that show the same state."""
        return self.rows.digest

    def outcomes(self) -> Outcomes:
        """What became of each command, up to the record that it names."""
        with sqlite.sentences(self.path, "read the outcomes"), self._readers.connect() as connection:
            return outcomes.read(connection)

    def _begin(self, connection: Connection, nouns: list[Noun[Any]]) -> None:
        row = connection.execute(select(schema.applied)).one_or_none()
        for noun in nouns:
            if row is None:
                # The tables of other people's plugins are in no revision of ours.
                noun.table.create(connection, checkfirst=True)
            _check_table(connection, noun.table, self.path)
            self.rows.load(noun.table.name, _rows_of(connection, noun.table))
        if row is None:
            self._begin_anew(connection, nouns)
        elif row.shape == self.shape and row.digest != self.digest:
            raise RowsChanged(self.path, self.rows, _as_applied(row), row.digest)

    def _begin_anew(self, connection: Connection, nouns: list[Noun[Any]]) -> None:
        self.project({noun: noun.initial for noun in nouns})
        for name, changes in self.rows.unwritten.items():
            _write(connection, self.rows.table(name), changes)
        self.rows.written()
        outcomes.write(connection, Outcomes().delta(0))
        at = {"id": 1, "seq": START.seq, "term": START.term, "hash": START.hash, "pair_seq": 0}
        connection.execute(insert(schema.applied), at | {"digest": self.digest, "shape": self.shape})


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
    return Applied(START, 0) if row is None else _as_applied(row)


def _as_applied(row: SqlRow[Any]) -> Applied:
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


def _write(connection: Connection, table: Table, changes: Mapping[Key, Row | None]) -> None:
    gone = [key for key, row in changes.items() if row is None]
    new = [dict(row) for row in changes.values() if row is not None]
    for key in gone:
        connection.execute(delete(table).where(tuple_(*table.primary_key.columns) == key))
    if new:
        connection.execute(insert(table).prefix_with("OR REPLACE"), new)
