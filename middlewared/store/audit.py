"""audit.db: what happened on this controller beside the log. Bounded: the oldest rows make room for the newest.

It is this controller's own and is in no digest. It is written with synchronous=NORMAL: a power loss may take the last
moments of it, which no caller was promised. Deleting the file loses the history and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, Engine, delete, func, insert, select

from middlewared.kernel.audit import Filter, Kept, Note
from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.store import schema, sqlite

log = logging.getLogger(__name__)

ROWS = 100_000
_FIELDS = Note.__struct_fields__


class AuditStore:
    """The open audit.db. Synchronous; one thread at a time."""

    def __init__(self, path: Path, engine: Engine, rows: int) -> None:
        self.path = path
        self._engine = engine
        self._rows = rows

    @classmethod
    def open(cls, path: Path, *, rows: int = ROWS) -> AuditStore:
        """Open or make the file. One that is damaged is renamed and a new one begins. Raises PortFailed."""
        try:
            return cls._open(path, rows)
        except LogDamaged as e:
            aside = path.with_name(path.name + ".damaged")
            log.error("event=audit_begun_anew kept=%s why=%r", aside.name, str(e))
            try:
                path.replace(aside)
            except OSError as failed:
                raise PortFailed("put the damaged audit away", f"{path}: {failed.strerror}") from None
            sqlite.remove(path)
            return cls._open(path, rows)

    @classmethod
    def _open(cls, path: Path, rows: int) -> AuditStore:
        with sqlite.sentences(path, f"open {path}"):
            store = cls(path, sqlite.writer(path, "NORMAL"), rows)
            try:
                schema.bring_current(store._engine, "audit")
            except BaseException:
                store.close()
                raise
        return store

    def close(self) -> None:
        self._engine.dispose()

    def write(self, notes: Sequence[Note]) -> None:
        """Keep `notes`, in one transaction. Raises PortFailed or LogDamaged."""
        with sqlite.sentences(self.path, "write the audit"), self._engine.begin() as connection:
            connection.execute(insert(schema.note), [msgspec.structs.asdict(note) for note in notes])
            newest = connection.execute(select(func.max(schema.note.c.id))).scalar_one()
            connection.execute(delete(schema.note).where(schema.note.c.id <= newest - self._rows))

    def find(self, wanted: Filter, before: int | None, limit: int) -> list[Kept]:
        """The newest notes that are looked for, below id `before`. Raises PortFailed or LogDamaged."""
        columns = schema.note.c
        exact = {columns.who: wanted.user, columns.method: wanted.method, columns.request_id: wanted.request_id}
        tests: list[ColumnElement[bool]] = [column == value for column, value in exact.items() if value is not None]
        if before is not None:
            tests.append(columns.id < before)
        if wanted.since_ns is not None:
            tests.append(columns.at_ns >= wanted.since_ns)
        if wanted.until_ns is not None:
            tests.append(columns.at_ns <= wanted.until_ns)
        if wanted.kinds is not None:
            tests.append(columns.kind.in_(wanted.kinds))
        statement = select(schema.note).where(*tests).order_by(columns.id.desc()).limit(limit)
        with sqlite.sentences(self.path, "read the audit"), self._engine.connect() as connection:
            found = connection.execute(statement).all()
        return [Kept(row[0], Note(**dict(zip(_FIELDS, row[1:], strict=True)))) for row in found]
