"""The method of the API that asked for an event; the records of before have none."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE event ADD COLUMN method TEXT NOT NULL DEFAULT ''")


def downgrade() -> None:
    raise NotImplementedError("the log is never taken back to an older schema")
