"""The projections: how far the log is applied, and one table for each noun of the product's own plugins.

A later revision that cannot convert rows deletes those of `applied`: the store then begins again at the log's start.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "applied",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("pair_seq", sa.Integer(), nullable=False),
    )
    op.create_table(
        "failover_settings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("default_node", sa.String(), nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
    )
    op.create_table(
        "network_configuration",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("hostname_a", sa.String(), nullable=False),
        sa.Column("hostname_b", sa.String(), nullable=False),
        sa.Column("hostname_virtual", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("domains", sa.JSON(), nullable=False),
        sa.Column("nameserver1", sa.String(), nullable=False),
        sa.Column("nameserver2", sa.String(), nullable=False),
        sa.Column("nameserver3", sa.String(), nullable=False),
        sa.Column("ipv4gateway", sa.String(), nullable=False),
        sa.Column("ipv6gateway", sa.String(), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
    )
    op.create_table(
        "network_vip",
        sa.Column("vhid", sa.Integer(), primary_key=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("prefix", sa.Integer(), nullable=False),
        sa.Column("interface", sa.String(), nullable=False),
    )
    op.create_table(
        "user_account",
        sa.Column("username", sa.String(), primary_key=True),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
