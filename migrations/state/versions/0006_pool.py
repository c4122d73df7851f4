"""The pools of the pair."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "pool",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("guid", sa.String(), nullable=False),
        sa.Column("disks", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
