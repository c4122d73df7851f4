"""The digest of rows depends on what they hold, and on nothing else."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel import digest

numbers = st.lists(st.tuples(st.sampled_from(["a", "ab"]), st.binary(max_size=8)), max_size=12).map(
    lambda rows: [digest.row_digest(table, row) for table, row in rows]
)


@given(numbers=numbers, detour=st.integers(0, 2**256 - 1), data=st.data())
def test_rows_give_the_same_digest_in_every_order_and_after_every_detour(
    numbers: list[int], detour: int, data: st.DataObject
) -> None:
    total = reduce(digest.add, numbers, 0)
    assert reduce(digest.add, data.draw(st.permutations(numbers)), 0) == total
    assert digest.take_off(digest.add(total, detour), detour) == total
    assert len(digest.as_hex(total)) == 64


def test_a_row_that_stands_twice_does_not_vanish() -> None:
    number = digest.row_digest("t", b"[1]")
    assert digest.add(digest.add(0, number), number) != 0


def test_the_same_row_in_another_table_counts_otherwise() -> None:
    assert digest.row_digest("a", b"b[1]") != digest.row_digest("ab", b"[1]")


def test_the_bytes_of_a_row_do_not_depend_on_the_order_of_its_keys_or_on_the_kind_of_sequence() -> None:
    row = {"b": {"y": 1, "x": (1, 2)}, "a": "ü"}
    assert digest.row_bytes(["a", "b"], row) == '["ü",{"x":[1,2],"y":1}]'.encode()


def test_a_shape_names_tables_columns_and_types_in_any_order() -> None:
    one = digest.shape([("t", [("a", "INTEGER"), ("b", "JSON")]), ("s", [("c", "VARCHAR")])])
    assert digest.shape([("s", [("c", "VARCHAR")]), ("t", [("b", "JSON"), ("a", "INTEGER")])]) == one
    assert digest.shape([("s", [("c", "VARCHAR")]), ("t", [("b", "JSON"), ("a", "VARCHAR")])]) != one
