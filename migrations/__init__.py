"""Schemas of log.db and state.db, owned by alembic."""
