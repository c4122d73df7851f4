"""What is told of rows that differ."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table

from middlewared.plugin import Row
from middlewared.store.rows import Difference, Rows, words

TABLE = Table(
    "account",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("age", Integer),
    Column("hash", String, info={"secret": True}),
)


def rows(*given: Row) -> Rows:
    made = Rows([TABLE])
    made.replace("account", given)
    return made


ADA: Row = {"name": "ada", "age": 7, "hash": "$argon2id$secret"}


def test_equal_rows_do_not_differ_in_whatever_order() -> None:
    bob: Row = {"name": "bob", "age": None, "hash": ""}
    assert rows(ADA, bob).first_difference(rows(bob, ADA)) is None
    assert rows(ADA, bob).digest == rows(bob, ADA).digest


def test_a_value_is_told_as_it_is_and_a_secret_is_not() -> None:
    found = rows(ADA).first_difference(rows(ADA | {"age": 8}))
    assert found == Difference(table="account", key='["ada"]', column="age", here="7", there="8")
    found = rows(ADA).first_difference(rows(ADA | {"hash": "other"}))
    assert found is not None
    assert found.column == "hash"
    assert found.here is not None
    assert found.here.startswith('"sha256:')
    assert "argon2id" not in words(found)


def test_a_row_that_one_side_lacks_is_told_whole_but_for_its_secrets() -> None:
    found = rows().first_difference(rows(ADA))
    assert found is not None
    assert (found.column, found.here) == (None, None)
    assert found.there is not None
    assert found.there.startswith('{"age":7,"hash":"sha256:')
    assert words(found).startswith("table='account' key='[\"ada\"]' there=")


def test_a_row_that_was_taken_off_counts_no_more() -> None:
    made = rows(ADA)
    made.drop("account", ("ada",))
    made.drop("account", ("ada",))
    assert made.digest == rows().digest
    assert made.unwritten["account"] == {("ada",): None}
