"""The log: its records, where its terms begin, and what was cut from it.

The triggers refuse UPDATE and DELETE, and any INSERT but at the end: INSERT OR REPLACE goes round the first two.
STRICT makes SQLite refuse a value of the wrong type instead of storing it.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE event (
        seq INTEGER NOT NULL PRIMARY KEY,
        term INTEGER NOT NULL,
        origin TEXT NOT NULL,
        kind TEXT NOT NULL,
        version INTEGER NOT NULL,
        actor TEXT NOT NULL,
        request_id TEXT NOT NULL,
        wall_ns INTEGER NOT NULL,
        payload BLOB NOT NULL,
        prev BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE term (
        term INTEGER NOT NULL PRIMARY KEY,
        first_seq INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE cut (
        id INTEGER NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        n INTEGER NOT NULL,
        digest TEXT NOT NULL,
        file TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TRIGGER event_no_delete BEFORE DELETE ON event "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only: no DELETE'); END",
    "CREATE TRIGGER event_no_update BEFORE UPDATE ON event "
    "BEGIN SELECT RAISE(ABORT, 'the log is append-only: no UPDATE'); END",
    "CREATE TRIGGER event_dense BEFORE INSERT ON event "
    "WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event) "
    "BEGIN SELECT RAISE(ABORT, 'the log is dense: INSERT only at its end'); END",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the log is never taken back to an older schema")
