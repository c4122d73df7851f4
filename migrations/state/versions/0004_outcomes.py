"""What became of each command. The rows of an older file are folded from the log when it is opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "outcome",
        sa.Column("first", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.Integer(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
    )
    op.create_table(
        "outcome_time",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("log_ns", sa.Integer(), nullable=False),
        sa.Column("wall_ns", sa.Integer(), nullable=False),
    )
    op.execute("INSERT INTO outcome_time (id, seq, log_ns, wall_ns) VALUES (1, 0, 0, 0)")


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
