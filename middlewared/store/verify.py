"""Is the log at this path what was written, from its first record to its last? Reads only.

Found: a record whose bytes do not give its hash, a missing, moved or foreign record, a page that SQLite cannot read,
a trigger that is not as this build makes it, a table of terms that does not follow from the records, committed
transactions that a damaged -wal file would lose (wal.py), bytes that nothing could have written (pages.py).

Not found here: a tail that is missing whole. rebuild.contradiction finds it where state.db stands beside the log.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from sqlalchemy import Connection, Engine

from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.event import START, Position
from middlewared.store import pages, records, schema, sqlite, wal

_BATCH = 2048
_WAL_VERSIONS = b"\2\2"
"""The read and write version in a database's header, bytes 18 and 19 (sqlite.org/fileformat2.html, 1.3.3)."""


def verify(path: Path, progress: Callable[[int], None] | None = None) -> Position:
    """Walk the log at `path` and answer where it ends. progress: called with each seq that is reached, in steps.

    Raises LogDamaged with the file, the seq (0: the file as a whole) and what differs; PortFailed when the file
    cannot be read.
    """
    try:
        return _verify(path, progress, untouched=True)
    except LogDamaged:
        if not sqlite.wal_of(path).exists():
            raise
        # Another process opened the log meanwhile and may have changed pages under the reader.
        return _verify(path, progress, untouched=False)


def _verify(path: Path, progress: Callable[[int], None] | None, *, untouched: bool) -> Position:
    refuse_lost_frames(path)
    engine = sqlite.reader(path, untouched=untouched)
    try:
        with sqlite.sentences(path, "read the log"):
            _check_schema(engine, path)
        end, terms = _walk(engine, path, progress)
        with sqlite.sentences(path, "read the log"), engine.connect() as connection:
            _check_terms(connection, path, end, terms)
            _check_pages(connection, path)
        return end
    finally:
        engine.dispose()


def refuse_lost_frames(path: Path) -> None:
    """Raise LogDamaged when SQLite would drop committed transactions of the -wal file beside `path`."""
    beside = sqlite.wal_of(path)
    try:
        fault = wal.fault_in(beside)
    except OSError as e:
        raise PortFailed("read the log", f"{beside}: {e.strerror}") from None
    if fault is not None:
        raise LogDamaged(str(beside), 0, fault)


def _check_schema(engine: Engine, path: Path) -> None:
    found = schema.revision(engine)
    if found is None:
        raise LogDamaged(str(path), 0, "it holds no log")
    if found > schema.HEADS["log"]:
        raise PortFailed("read the log", f"{path}: its schema {found} is newer than {schema.HEADS['log']}")
    if _versions(path) != _WAL_VERSIONS:
        raise LogDamaged(str(path), 0, "it is not in WAL mode")
    with engine.connect() as connection:
        triggers = set(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'trigger'").scalars())
    for trigger in (schema.NO_UPDATE, schema.NO_DELETE, schema.DENSE):
        if trigger not in triggers:
            raise LogDamaged(str(path), 0, f"the trigger {trigger.split()[2]} is missing or changed")


def _versions(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:]
    except OSError as e:
        raise PortFailed("read the log", f"{path}: {e.strerror}") from None


def _walk(engine: Engine, path: Path, progress: Callable[[int], None] | None) -> tuple[Position, list[tuple[int, int]]]:
    """Where the log ends, and (term, first seq) of every term in it."""
    at = START
    terms: list[tuple[int, int]] = []
    while True:
        # One short transaction a batch: a long one would keep the -wal file growing.
        try:
            with engine.connect() as connection:
                batch = records.since(connection, path, at.seq, _BATCH)
        except sqlite.Failure as e:
            raise sqlite.meaning(e, path, "read the log", at.seq + 1) from e
        if not batch:
            return at, terms
        term = at.term if at.seq > 0 else None
        at = records.check_chain(batch, at, path)
        for record in batch:
            if record.term != term:
                terms.append((record.term, record.seq))
                term = record.term
        if progress is not None:
            progress(at.seq)


def _check_terms(connection: Connection, path: Path, end: Position, terms: list[tuple[int, int]]) -> None:
    statement = "SELECT term, first_seq FROM term WHERE first_seq <= ? ORDER BY term"
    noted = [(term, first_seq) for term, first_seq in connection.exec_driver_sql(statement, (end.seq,))]
    for mine, theirs in zip_longest(terms, noted):
        if mine != theirs:
            term, seq = mine or theirs
            raise LogDamaged(str(path), seq, f"the table of terms is wrong about term {term}")


def _check_pages(connection: Connection, path: Path) -> None:
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if verdict != "ok":
        raise LogDamaged(str(path), 0, f"SQLite: {verdict}")
    if connection.exec_driver_sql("SELECT count(*) FROM cut").scalar_one() > 0:
        return
    roots = set(connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE rootpage > 0").scalars())
    try:
        stray = pages.stray_byte(path, roots | {1}, wal.pages_in(sqlite.wal_of(path)))
    except OSError as e:
        raise PortFailed("read the log", f"{path}: {e.strerror}") from None
    if stray is not None:
        raise LogDamaged(str(path), 0, stray)
