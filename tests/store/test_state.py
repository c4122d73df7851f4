"""state.db: rows and position move together; the digest speaks of content only."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import BadPlugin, LogDamaged, PortFailed
from middlewared.kernel.event import START, Position
from middlewared.plugin import Noun
from middlewared.store.rows import Difference
from middlewared.store.state import Applied, RowsChanged, StateStore, applied_in

AT_3 = Position(3, 1, b"\3" * 32)
AT_4 = Position(4, 2, b"\4" * 32)


def jars(noun: Noun[Any], **amounts: tuple[int, ...]) -> Any:
    return msgspec.structs.replace(noun.initial, jars=amounts)


def execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_new_file_holds_the_initial_state_at_the_start(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    assert store.applied() == Applied(START, 0)
    assert store.load([shelf]) == {"shelf": shelf.initial}
    store.close()


def test_rows_and_position_are_there_when_it_is_opened_again(tmp_path: Path, shelf: Noun[Any]) -> None:
    state = jars(shelf, honey=(1, 2), salt=())
    store = StateStore.open(tmp_path / "state.db", [shelf])
    store.apply({shelf: state}, AT_3, 2)
    assert store.load([shelf]) == {"shelf": state}
    store.close()
    assert applied_in(tmp_path / "state.db") == Applied(AT_3, 2)
    again = StateStore.open(tmp_path / "state.db", [shelf])
    assert again.applied() == Applied(AT_3, 2)
    assert again.load([shelf]) == {"shelf": state}
    again.close()


def test_only_rows_that_differ_are_written(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    store.apply({shelf: jars(shelf, a=(1,), b=(2,), c=(3,))}, AT_3, 0)
    execute(
        store.path, "CREATE TRIGGER t BEFORE INSERT ON shelf_jar WHEN NEW.name = 'b' BEGIN SELECT RAISE(FAIL, 'b'); END"
    )
    after = jars(shelf, b=(2,), c=(3, 4), d=(5,))
    store.apply({shelf: after}, AT_4, 4)
    assert store.load([shelf]) == {"shelf": after}
    store.close()


def test_a_position_alone_can_move(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    digest = store.digest
    store.apply({}, AT_3, 3)
    assert store.applied() == Applied(AT_3, 3)
    assert store.digest == digest
    store.close()


def test_a_write_that_fails_leaves_the_file_and_the_next_write_right(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    before = jars(shelf, a=(1,))
    store.apply({shelf: before}, AT_3, 0)
    execute(store.path, "CREATE TRIGGER t BEFORE UPDATE ON applied BEGIN SELECT RAISE(ABORT, 'refused'); END")
    with pytest.raises(LogDamaged, match="refused"):
        store.apply({shelf: jars(shelf, b=(2,))}, AT_4, 0)
    assert store.applied() == Applied(AT_3, 0)
    assert store.load([shelf]) == {"shelf": before}
    execute(store.path, "DROP TRIGGER t")
    store.apply({shelf: jars(shelf, b=(2,))}, AT_4, 0)
    assert store.load([shelf]) == {"shelf": jars(shelf, b=(2,))}
    store.close()


def test_the_digest_depends_on_the_rows_and_not_on_their_history(tmp_path: Path, shelf: Noun[Any]) -> None:
    one = StateStore.open(tmp_path / "one.db", [shelf])
    two = StateStore.open(tmp_path / "two.db", [shelf])
    one.apply({shelf: jars(shelf, a=(1,), b=(2, 3))}, AT_3, 0)
    two.apply({shelf: jars(shelf, b=(9,))}, AT_3, 0)
    assert one.digest != two.digest
    two.apply({shelf: jars(shelf, c=(), b=(2, 3), a=(7,))}, AT_3, 1)
    two.apply({shelf: jars(shelf, b=(2, 3), a=(1,))}, AT_4, 2)
    assert one.digest == two.digest
    one.close()
    two.close()


def test_the_digest_is_the_same_in_every_build_and_process(tmp_path: Path, shelf: Noun[Any]) -> None:
    """Two controllers compare it; whoever changes it must give the shape another name."""
    store = StateStore.open(tmp_path / "state.db", [shelf])
    store.apply({shelf: jars(shelf, honey=(1, 2), größe=())}, AT_3, 0)
    rows = ('[[1,2],2,"honey"]', '[[],0,"größe"]')
    numbers = [int.from_bytes(hashlib.sha256(b"mw-row1\0shelf_jar\0" + row.encode()).digest()) for row in rows]
    assert store.digest == f"{sum(numbers) % 2**256:064x}"
    store.close()


steps = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(0, 3), max_size=2).map(tuple), max_size=6),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps, written=st.sets(st.integers(0, 11)))
def test_the_digest_kept_up_from_changes_is_that_of_all_rows_in_the_file(
    shelf: Noun[Any], steps: list[dict[str, tuple[int, ...]]], written: set[int]
) -> None:
    with TemporaryDirectory() as directory:
        store = StateStore.open(Path(directory) / "state.db", [shelf])
        for number, amounts in enumerate(steps):
            store.project({shelf: jars(shelf, **amounts)})
            if number in written:
                store.write(AT_3, 0)
        store.write(AT_4, 0)
        kept = store.digest
        store.close()
        again = StateStore.open(store.path, [shelf])
        assert again.digest == kept
        assert again.rows.first_difference(store.rows) is None
        again.close()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            "UPDATE shelf_jar SET count = 9 WHERE name = 'b'",
            Difference(table="shelf_jar", key='["b"]', column="count", here="9", there="1"),
        ),
        (
            "DELETE FROM shelf_jar WHERE name = 'a'",
            Difference(
                table="shelf_jar", key='["a"]', column=None, here=None, there='{"amounts":[1],"count":1,"name":"a"}'
            ),
        ),
        (
            "INSERT INTO shelf_jar VALUES ('aa', 0, '[]')",
            Difference(
                table="shelf_jar", key='["aa"]', column=None, here='{"amounts":[],"count":0,"name":"aa"}', there=None
            ),
        ),
    ],
)
def test_a_row_that_something_else_changed_is_noticed_when_the_file_is_opened(
    tmp_path: Path, shelf: Noun[Any], change: str, difference: Difference
) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    store.apply({shelf: jars(shelf, a=(1,), b=(2,), c=(3,))}, AT_3, 2)
    store.close()
    execute(store.path, change)
    with pytest.raises(RowsChanged, match=f"but {store.digest} was written with them") as caught:
        StateStore.open(store.path, [shelf])
    assert caught.value.applied == Applied(AT_3, 2)
    assert caught.value.rows.first_difference(store.rows) == difference


def test_a_file_of_a_build_that_knew_no_digest_is_believed(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [shelf])
    store.apply({shelf: jars(shelf, a=(1,))}, AT_3, 2)
    store.close()
    execute(store.path, "UPDATE applied SET digest = '', shape = ''")
    again = StateStore.open(store.path, [shelf])
    assert again.digest == store.digest
    again.close()


def test_a_table_of_another_shape_is_refused_by_name(tmp_path: Path, shelf: Noun[Any]) -> None:
    StateStore.open(tmp_path / "state.db", [shelf]).close()
    execute(tmp_path / "state.db", "ALTER TABLE shelf_jar DROP COLUMN amounts")
    with pytest.raises(LogDamaged, match="table shelf_jar is not as this build has it: amounts"):
        StateStore.open(tmp_path / "state.db", [shelf])


def test_a_noun_that_the_file_has_no_table_for_is_noticed(tmp_path: Path, shelf: Noun[Any]) -> None:
    store = StateStore.open(tmp_path / "state.db", [])
    store.apply({}, AT_3, 0)
    store.close()
    with pytest.raises(LogDamaged, match="table shelf_jar is not as this build has it"):
        StateStore.open(tmp_path / "state.db", [shelf])


def test_a_table_without_a_primary_key_is_refused(tmp_path: Path, shelf: Noun[Any]) -> None:
    table = Table("loose", MetaData(), Column("name", String), Column("count", Integer))
    noun: Noun[Any] = Noun(
        name="loose",
        initial=shelf.initial,
        events=(),
        decide=shelf.decide,
        evolve=shelf.evolve,
        table=table,
        project=shelf.project,
        restore=shelf.restore,
    )
    with pytest.raises(BadPlugin, match="noun loose: its table loose has no primary key"):
        StateStore.open(tmp_path / "state.db", [noun])


def test_a_damaged_file_is_named(tmp_path: Path, shelf: Noun[Any]) -> None:
    (tmp_path / "state.db").write_bytes(b"x" * 5000)
    with pytest.raises(LogDamaged, match=r"state\.db: .*not a database"):
        StateStore.open(tmp_path / "state.db", [shelf])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, shelf: Noun[Any]) -> None:
    with pytest.raises(PortFailed, match="Is a directory"):
        StateStore.open(tmp_path, [shelf])
