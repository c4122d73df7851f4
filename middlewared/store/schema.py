"""The fixed tables of log.db, state.db and audit.db, and how a file comes to the schema that this build knows.

Alembic owns both schemas (`middlewared_migrations`, one directory each). Whether a file is current is one SELECT, so
alembic, which takes longer to import than everything else here to run, is imported only when there is work for it.
No migration rewrites an event: old shapes are lifted when they are read (kernel.event.Catalogue).

log.db keeps its first schema until a record is appended that needs the next one. So the build before this one opens
the log, and goes on with it, for as long as the log's format is one that it can read.
"""

from __future__ import annotations

import threading
from typing import Literal, TypeAlias

from sqlalchemy import Column, Connection, Engine, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.exc import OperationalError

from middlewared.kernel.errors import PortFailed

HEADS = {"audit": "0001", "log": "0002", "state": "0008"}
"""The newest revision of each schema. A test compares it with the migrations."""

OPENED_AT = {"audit": "0001", "log": "0001", "state": HEADS["state"]}
"""The revision that a file has at least when it was opened."""

WITH_METHOD = "0002"
"""From this revision on, log.db holds the method of a record."""

Which: TypeAlias = Literal["audit", "log", "state"]

log_metadata = MetaData()

event = Table(
    "event",
    log_metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("term", Integer, nullable=False),
    Column("origin", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("wall_ns", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("prev", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("method", Text, nullable=False, server_default=""),
)
"""The log. The columns stand in the order of kernel.event.Record."""

term = Table(
    "term",
    log_metadata,
    Column("term", Integer, primary_key=True, autoincrement=False),
    Column("first_seq", Integer, nullable=False),
)
"""Where each term begins. It follows from `event`; without it the history of terms would be a scan of the log."""

cut = Table(
    "cut",
    log_metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("file", Text, nullable=False),
)
"""Every tail that was set aside. at: wall clock, ns. digest: SHA-256 of the quarantine file. file: its name."""

state_metadata = MetaData()

applied = Table(
    "applied",
    state_metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("term", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("pair_seq", Integer, nullable=False),
    Column("digest", Text, nullable=False, server_default=""),
    Column("shape", Text, nullable=False, server_default=""),
)
"""One row: the record up to which the log is folded into the projections, the last seq known durable on both, and the
digest of all rows with the shape of the tables that it speaks of (kernel.digest); "" where an older build wrote it."""

outcome = Table(
    "outcome",
    state_metadata,
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
    Column("term", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ns", Integer, nullable=False),
    Column("method", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("name", Text, nullable=False),
)
"""The commands whose outcome is remembered (kernel.outcomes), as of the record that `applied` names."""

outcome_time = Table(
    "outcome_time",
    state_metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("log_ns", Integer, nullable=False),
    Column("wall_ns", Integer, nullable=False),
)
"""One row: the log time at the last record that `outcome` covers. It differs from `applied` only in a file that was
migrated and not opened since."""

audit_metadata = MetaData()

note = Table(
    "note",
    audit_metadata,
    Column("id", Integer, primary_key=True),
    Column("at_ns", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("errno", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("times", Integer, nullable=False),
)
"""The audit of this controller. The columns but the first stand in the order of kernel.audit.Note."""

NO_DELETE = (
    "CREATE TRIGGER event_no_delete BEFORE DELETE ON event "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only: no DELETE'); END"
)
NO_UPDATE = (
    "CREATE TRIGGER event_no_update BEFORE UPDATE ON event "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only: no UPDATE'); END"
)
DENSE = (
    # INSERT OR REPLACE fires no DELETE trigger, so the place of a new record is guarded by itself.
    "CREATE TRIGGER event_dense BEFORE INSERT ON event "
    "WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event) "
    "BEGIN SELECT RAISE(ABORT, 'the log is dense: INSERT only at its end'); END"
)


_one_at_a_time = threading.Lock()
"""Alembic keeps the migration that is under way in module globals: two files at once would be mixed up."""


def bring_current(engine: Engine, which: Which) -> str:
    """Bring the file to the revision that it is opened at, in one transaction; one that is further is left as it is.

    Answers the file's revision. Raises PortFailed when the file was written by a newer build.
    """
    found = revision(engine)
    if found is not None and found > HEADS[which]:
        raise PortFailed(f"open {which}.db", f"its schema {found} is newer than {HEADS[which]}, the one known here")
    if found is not None and found >= OPENED_AT[which]:
        return found
    with engine.begin() as connection:
        migrate(connection, which, OPENED_AT[which])
    return OPENED_AT[which]


def migrate(connection: Connection, which: Which, to: str) -> None:
    """Run the migrations up to revision `to`, in the transaction that is under way."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", f"middlewared_migrations:{which}")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, to)


def revision(engine: Engine) -> str | None:
    """The schema's revision in the file; None where it holds none yet."""
    with engine.connect() as connection:
        try:
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        except OperationalError as e:
            if "no such table" in str(e.orig):
                return None
            raise
