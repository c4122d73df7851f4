"""The rows of all projections as of one record, in memory: their digest, and what of them the file does not have yet.

A noun's rows are given whole and compared with the ones before; only rows that differ are hashed and written. A table
that is too large for that says which rows changed (`put`, `drop`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, Table
from sqlalchemy.dialects.sqlite import dialect

from middlewared.kernel import digest
from middlewared.plugin import Row

Key = tuple[object, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two states differ. here, there: JSON of the value; None on the side where there is no such row.

    column None: the row is on one side only, and that side shows it whole. Values of columns that are marked
    `info={"secret": True}` are shown as the beginning of their SHA-256.
    """

    table: str
    key: str
    column: str | None
    here: str | None
    there: str | None


def words(difference: Difference) -> str:
    """For a line of the journal."""
    fields = msgspec.structs.asdict(difference)
    return " ".join(f"{name}={value!r}" for name, value in fields.items() if value is not None)


class _Columns(NamedTuple):
    key: tuple[str, ...]
    all: tuple[str, ...]


class Rows:
    """What the tables hold. unwritten: table -> key -> row that the file lacks, None where it has one too many."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {str(table.name): table for table in tables}
        self._columns = {name: _columns(table) for name, table in self._tables.items()}
        self._rows: dict[str, dict[Key, Row]] = {name: {} for name in self._tables}
        self._total = 0
        self.unwritten: dict[str, dict[Key, Row | None]] = {name: {} for name in self._tables}

    @property
    def digest(self) -> str:
        """Of every row, in hex (kernel.digest)."""
        return digest.as_hex(self._total)

    def table(self, name: str) -> Table:
        return self._tables[name]

    def load(self, table: str, rows: Iterable[Row]) -> None:
        """These rows stand in the file."""
        for row in rows:
            self.put(table, row)
        self.unwritten[table].clear()

    def replace(self, table: str, rows: Iterable[Row]) -> None:
        """The table now holds exactly these rows."""
        names = self._columns[table].key
        after = {tuple(row[name] for name in names): row for row in rows}
        for key in [key for key in self._rows[table] if key not in after]:
            self.drop(table, key)
        for row in after.values():
            self.put(table, row)

    def put(self, table: str, row: Row) -> None:
        """Insert the row, or replace the one with its key."""
        columns = self._columns[table]
        key = tuple(row[name] for name in columns.key)
        before = self._rows[table].get(key)
        if before == row:
            return
        new = digest.row_bytes(columns.all, row)
        if before is not None:
            old = digest.row_bytes(columns.all, before)
            if old == new:
                return
            self._total = digest.take_off(self._total, digest.row_digest(table, old))
        self._total = digest.add(self._total, digest.row_digest(table, new))
        self._rows[table][key] = row
        self.unwritten[table][key] = row

    def drop(self, table: str, key: Key) -> None:
        """Take the row off, if it is there."""
        before = self._rows[table].pop(key, None)
        if before is not None:
            old = digest.row_bytes(self._columns[table].all, before)
            self._total = digest.take_off(self._total, digest.row_digest(table, old))
            self.unwritten[table][key] = None

    def written(self) -> None:
        """The file holds what is here."""
        for changes in self.unwritten.values():
            changes.clear()

    def first_difference(self, there: Rows) -> Difference | None:
        """The first table, key and column in which `there` differs; None when they are equal."""
        return next(self._differences(there), None)

    def _differences(self, there: Rows) -> Iterator[Difference]:
        for name in sorted(self._rows):
            mine, theirs = self._rows[name], there._rows.get(name, {})
            for key in sorted(mine.keys() | theirs.keys(), key=_text):
                if mine.get(key) != theirs.get(key):
                    yield from self._in_row(name, key, mine.get(key), theirs.get(key))

    def _in_row(self, name: str, key: Key, here: Row | None, there: Row | None) -> Iterator[Difference]:
        columns = self._tables[name].columns
        mine, theirs = (None if row is None else _shown(columns, row) for row in (here, there))
        if mine is None or theirs is None:
            whole = [None if row is None else _text(row) for row in (mine, theirs)]
            yield Difference(table=name, key=_text(key), column=None, here=whole[0], there=whole[1])
            return
        for column in self._columns[name].all:
            if _text(mine[column]) != _text(theirs[column]):
                yield Difference(
                    table=name, key=_text(key), column=column, here=_text(mine[column]), there=_text(theirs[column])
                )


def shape_of(tables: Iterable[Table]) -> str:
    """kernel.digest.shape of these tables."""
    return digest.shape(
        (str(table.name), [(str(column.name), column.type.compile(dialect())) for column in table.columns])
        for table in tables
    )


def _columns(table: Table) -> _Columns:
    # SQLAlchemy's names are a subclass of str, which msgspec does not take for text.
    key = tuple(str(column.name) for column in table.primary_key.columns)
    return _Columns(key, tuple(sorted(str(column.name) for column in table.columns)))


def _shown(columns: Iterable[Column[Any]], row: Row) -> Row:
    """The row as it may be told."""
    return {
        str(column.name): _fingerprint(row[column.name]) if column.info.get("secret") else row[column.name]
        for column in columns
    }


def _fingerprint(value: object) -> str:
    return "sha256:" + hashlib.sha256(_text(value).encode()).hexdigest()[:16]


def _text(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
