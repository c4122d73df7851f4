"""What is told from a file of numbered records."""

from __future__ import annotations

import pytest

from middlewared.kernel.facts import Node
from tests.failover.appender import RECORD, record
from tests.failover.records import Record, Told, check, parse, read, turns


def written(*records: tuple[int, Node]) -> str:
    return "".join(record(number, node).decode() for number, node in records)


def told(*records: tuple[int, Node]) -> list[Told]:
    return [Told(0, Record(number, node)) for number, node in records]


def test_a_record_has_always_the_same_length_and_says_who_wrote_it() -> None:
    assert {len(record(number, "A")) for number in (1, 10**12)} == {RECORD}
    assert parse(record(7, "B").decode()) == Record(7, "B")


def test_a_file_with_every_acknowledged_record_once_is_clean_and_may_have_more() -> None:
    assert check(told((1, "A"), (2, "B")), written((1, "A"), (2, "B"), (3, "B"))).clean


def test_an_acknowledged_record_that_is_not_there_is_lost_also_when_another_has_its_number() -> None:
    verdict = check(told((1, "A"), (2, "A")), written((1, "A"), (2, "B")))
    assert (verdict.clean, verdict.lost) == (False, (Record(2, "A"),))


@pytest.mark.parametrize(
    ("records", "twice", "holes"),
    [([(1, "A"), (1, "A")], (1,), ()), ([(1, "A"), (1, "B")], (1,), ()), ([(1, "A"), (3, "A")], (), (2,))],
)
def test_a_number_that_is_there_twice_or_left_out_is_told(
    records: list[tuple[int, Node]], twice: tuple[int, ...], holes: tuple[int, ...]
) -> None:
    verdict = check([], written(*records))
    assert (verdict.clean, verdict.twice, verdict.holes) == (False, twice, holes)


def test_a_line_that_is_no_record_is_torn() -> None:
    assert check([], written((1, "A")) + "2 \0\0").torn == ("2 \0\0",)


def test_the_turns_are_who_wrote_one_after_the_other() -> None:
    records, _ = read(written((1, "A"), (2, "A"), (3, "B"), (4, "A")))
    assert turns(records) == ["A", "B", "A"]
