"""How this product opens a SQLite file, and what SQLite's refusals mean here.

A writer is one connection that begins every transaction with BEGIN IMMEDIATE, so that it waits for the file's lock at
the start and never in the middle. Readers have connections of their own and never hold a writer up (WAL).

Sources: sqlite.org/wal.html, sqlite.org/rescode.html, sqlite.org/uri.html (mode, immutable).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from middlewared.kernel.errors import LogDamaged, MiddlewareError, OutOfSpace, PortFailed

COPY_PAGES = 256
COPY_PAUSE_S = 0.001
"""A live database is copied in steps of so many pages, with such a pause between them."""
ROWS = (2048, 512, 64)
"""So many rows are inserted by one statement; few sizes, because each is a statement that the driver keeps."""
BUSY_S = 5.0
"""How long a connection waits for another's lock before it gives up."""

_OUTSIDE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}
"""Primary result codes that speak of the disk, the file system or another process; the others speak of the file."""

Failure = (sqlite3.Error, DBAPIError, UnicodeDecodeError)
"""What a statement may raise, through SQLAlchemy or past it; the last is the driver's word for a damaged text."""


def writer(path: Path, synchronous: Literal["FULL", "NORMAL"]) -> Engine:
    """An engine whose transactions may write. Creates the file, in WAL mode; both survive the engine.

    Raises PortFailed when the file or its directory cannot be written.
    """
    _must_be_writable(path)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA secure_delete = ON")  # pages.py relies on it
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The driver would begin by itself, and only before some statements. Straight to it: SQLAlchemy adds 20 us.
        connection.connection.cursor().execute("BEGIN IMMEDIATE")

    return engine


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """One transaction of a writer, for the commits that everybody waits for; like `connection.begin()` at a fifth of
    its cost. Raises sqlite3's errors as they are.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        driver.rollback()
        raise


def insert(cursor: sqlite3.Cursor | DBAPICursor, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert `rows`; statement: the INSERT of one, which ends with its VALUES.

    Many rows are one statement. The driver lets go of the interpreter's lock for each, and may wait 5 ms until a busy
    thread gives it back: row by row, a standby that catches up would wait for its own loop at every record.
    """
    done = 0
    for size in ROWS:
        while len(rows) - done >= size:
            cursor.execute(_of_many(statement, size), tuple(chain.from_iterable(rows[done : done + size])))
            done += size
    if done < len(rows):
        cursor.executemany(statement, rows[done:])


@cache
def _of_many(statement: str, rows: int) -> str:
    return statement + f", {statement[statement.rindex('(') :]}" * (rows - 1)


def reader(path: Path, *, untouched: bool = False) -> Engine:
    """An engine that can only read. Every SELECT is a transaction of its own.

    untouched: leave no -wal or -shm file behind. It holds only while no other process has the file open, which is so
    when there is no -wal file; otherwise it is ignored.

    Raises PortFailed when the file cannot be read.
    """
    try:
        path.open("rb").close()
    except OSError as e:
        raise PortFailed(f"read {path}", e.strerror or str(e)) from None
    alone = untouched and not wal_of(path).exists()
    uri = f"file:{quote(str(path.absolute()))}?" + ("immutable=1" if alone else "mode=ro")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True)


def copy(source: Path, target: Path, first: str, progress: Callable[[int], None] = lambda _: None) -> None:
    """Copy a live database to `target` as it is at one instant, by SQLite's backup API, without holding a writer up.

    first: a statement that reads something of it, which begins the transaction. progress: called with the bytes copied
    so far. Source: sqlite.org/backup.html. Raises sqlite3's errors.
    """
    # Not read-only: the last to close such a database would leave its -wal file behind.
    uri = f"file:{quote(str(source.absolute()))}?mode=rw"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as live,
        closing(sqlite3.connect(target)) as made,
    ):
        page = live.execute("PRAGMA page_size").fetchone()[0]

        def step(_: int, left: int, all_: int) -> None:
            progress((all_ - left) * page)
            time.sleep(COPY_PAUSE_S)

        # One transaction for the whole copy: it would begin anew at every commit otherwise.
        live.execute("BEGIN")
        live.execute(first).fetchone()
        live.backup(made, pages=COPY_PAGES, progress=step)
        live.execute("ROLLBACK")


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def beside(path: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside a database."""
    return wal_of(path), path.with_name(path.name + "-shm")


def refuse_unfinished(path: Path) -> None:
    """Raise PortFailed when the database, which nobody has open any more, is not whole in its one file.

    The last to close it moves what stands in the -wal file into it; SQLite tells nobody when the disk refuses that. It
    must not take another name then: the -wal file would stay behind, and with it what was committed last.
    """
    if wal_of(path).exists():
        raise PortFailed("close a database", f"{path}: what its -wal file holds could not be written to it")


def remove(path: Path) -> None:
    """Delete a database whole, with the files that SQLite keeps beside it. Raises PortFailed."""
    try:
        for file in (path, *beside(path)):
            file.unlink(missing_ok=True)
    except OSError as e:
        raise PortFailed("delete a database", f"{e.filename}: {e.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a new or renamed file may vanish in a power loss otherwise."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _must_be_writable(path: Path) -> None:
    # SQLite says "unable to open database file" for all of this; the system's own word names the reason.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        sync_directory(path.parent)
    except OSError as e:
        raise PortFailed(f"open {path}", e.strerror or str(e)) from None


def meaning(error: Exception, path: Path, purpose: str, seq: int = 0) -> MiddlewareError:
    """What an error of SQLite says: PortFailed for the disk or a lock, LogDamaged for the content of `path`.

    OutOfSpace when a write found no room. An fsync that fails for want of space is not told from one that fails.

    purpose: what was tried. seq: the record that could not be read, 0 where it is the file as a whole.
    """
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _OUTSIDE:
        kind = OutOfSpace if code & 0xFF == sqlite3.SQLITE_FULL else PortFailed
        return kind(purpose, f"{path}: {cause}")
    return LogDamaged(str(path), seq, f"SQLite: {cause}")


@contextmanager
def sentences(path: Path, purpose: str) -> Iterator[None]:
    """Let no SQLite error out of the block but as PortFailed or LogDamaged."""
    try:
        yield
    except Failure as e:
        raise meaning(e, path, purpose) from e
