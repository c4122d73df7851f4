"""The digest of all rows beside the position that they show."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("applied", sa.Column("digest", sa.Text(), nullable=False, server_default=""))
    op.add_column("applied", sa.Column("shape", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("delete state.db instead: it is built again from the log")
