"""The migrations make the tables that this build works with."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from middlewared.engine import registry
from middlewared.store import schema, sqlite
from middlewared.store.schema import Which

WHICH: tuple[Which, ...] = ("audit", "log", "state")


def tables(which: Which) -> MetaData:
    """Every table that this build works with, those of the product's own nouns included."""
    if which != "state":
        return {"log": schema.log_metadata, "audit": schema.audit_metadata}[which]
    every = MetaData()
    for table in schema.state_metadata.tables.values():
        table.to_metadata(every)
    for noun in registry.load().nouns.values():
        noun.table.to_metadata(every)
    return every


def script(which: Which) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", f"middlewared_migrations:{which}")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


@pytest.mark.parametrize("which", WHICH)
def test_the_newest_revision_is_the_one_that_the_start_looks_for(which: Which) -> None:
    assert script(which).get_current_head() == schema.HEADS[which]


@pytest.mark.parametrize("which", WHICH)
def test_a_migrated_file_has_the_tables_of_this_build(tmp_path: Path, which: Which) -> None:
    engine = sqlite.writer(tmp_path / "x.db", "NORMAL")
    with engine.begin() as connection:
        schema.migrate(connection, which, schema.HEADS[which])
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        changes = compare_metadata(context, tables(which))
    engine.dispose()
    assert changes == []


@pytest.mark.parametrize("which", WHICH)
def test_a_current_file_is_not_touched(tmp_path: Path, which: Which) -> None:
    path = tmp_path / "x.db"
    engine = sqlite.writer(path, "NORMAL")
    schema.bring_current(engine, which)
    engine.dispose()
    before = path.read_bytes()
    engine = sqlite.writer(path, "NORMAL")
    schema.bring_current(engine, which)
    engine.dispose()
    assert path.read_bytes() == before


def test_the_guards_of_the_log_are_the_ones_that_verify_and_the_cut_know(tmp_path: Path) -> None:
    engine = sqlite.writer(tmp_path / "log.db", "FULL")
    schema.bring_current(engine, "log")
    with engine.connect() as connection:
        found = set(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'trigger'").scalars())
    engine.dispose()
    assert found == {schema.NO_DELETE, schema.NO_UPDATE, schema.DENSE}
