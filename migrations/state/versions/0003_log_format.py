"""The format in which the log goes on; no row: the first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "log_format",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("log_format", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
