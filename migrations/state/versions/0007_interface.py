"""The network interfaces: what is saved, what is on trial, what waits for a commit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "network_interface",
        sa.Column("stage", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("failover_aliases", sa.JSON(), nullable=False),
        sa.Column("virtual_aliases", sa.JSON(), nullable=False),
        sa.Column("critical", sa.Boolean(), nullable=False),
        sa.Column("failover_group", sa.Integer(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("trial", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
