"""The noun: what may be said of a tail, and when."""

from __future__ import annotations

import errno

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from middlewared_plugins.failover.quarantine import (
    NOUN,
    Added,
    Conclude,
    Discard,
    Discarded,
    Entry,
    Note,
    Quarantine,
    Reapplied,
    Refusal,
    Result,
)

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.tail import Tail
from tests.plugins.given import given, in_state

TAIL = Tail(node="A", digest="ab" * 32, first=3, last=4, n=2, at_ns=9, answered=1, kinds={"x": 2}, terms=(1,))
OTHER = msgspec.structs.replace(TAIL, digest="cd" * 32)
RESULT = Result(applied=1, unchanged=0, refused=1, not_reapplicable=0, refusals=(Refusal(4, "no"),))


def test_a_tail_is_noted_once_however_often_it_is_told() -> None:
    given(NOUN).when(Note(tail=TAIL)).then(Added(tail=TAIL))
    given(NOUN, Added(tail=TAIL)).when(Note(tail=TAIL)).then()
    given(NOUN, Added(tail=TAIL)).when(Note(tail=OTHER)).then(Added(tail=OTHER))


def test_the_same_records_cut_by_both_controllers_are_two_tails() -> None:
    given(NOUN, Added(tail=TAIL)).when(Note(tail=msgspec.structs.replace(TAIL, node="B"))).then(
        Added(tail=msgspec.structs.replace(TAIL, node="B"))
    )


def test_what_is_decided_about_one_controllers_tail_says_nothing_of_the_others() -> None:
    theirs = msgspec.structs.replace(TAIL, node="B")
    after = given(NOUN, Added(tail=TAIL), Added(tail=theirs)).when(Discard(id=TAIL.id, reason="x")).after()
    assert after.digests("A", "discarded") == after.digests("B", "open") == frozenset({TAIL.digest})
    assert after.digests("B", "discarded") == frozenset()


def test_what_became_of_reapplying_is_said_once() -> None:
    given(NOUN, Added(tail=TAIL)).when(Conclude(id=TAIL.id, result=RESULT)).then(Reapplied(id=TAIL.id, result=RESULT))
    given(NOUN, Added(tail=TAIL), Reapplied(id=TAIL.id, result=RESULT)).when(Conclude(id=TAIL.id, result=RESULT)).then()


def test_what_was_discarded_is_not_reapplied() -> None:
    with pytest.raises(CallFailed, match="was discarded: of no use") as error:
        given(NOUN, Added(tail=TAIL), Discarded(id=TAIL.id, reason="of no use")).when(
            Conclude(id=TAIL.id, result=RESULT)
        ).decided()
    assert error.value.errno == errno.EEXIST


def test_a_tail_is_given_up_with_a_reason_and_only_once() -> None:
    given(NOUN, Added(tail=TAIL)).when(Discard(id=TAIL.id, reason=" of no use ")).then(
        Discarded(id=TAIL.id, reason="of no use")
    )
    given(NOUN, Added(tail=TAIL), Discarded(id=TAIL.id, reason="x")).when(Discard(id=TAIL.id, reason="y")).then()
    after = given(NOUN, Added(tail=TAIL), Added(tail=OTHER)).when(Discard(id=TAIL.id, reason="x")).after()
    assert (after.digests("A", "open"), after.digests("A", "discarded")) == (
        frozenset({OTHER.digest}),
        frozenset({TAIL.digest}),
    )


@pytest.mark.parametrize("reason", ["", " \n", "x" * 1001])
def test_without_a_reason_nothing_is_given_up(reason: str) -> None:
    assert list(given(NOUN, Added(tail=TAIL)).when(Discard(id=TAIL.id, reason=reason)).refused()) == ["reason"]


def test_a_tail_that_nobody_noted_is_not_known() -> None:
    assert list(given(NOUN).when(Discard(id="A-1", reason="x")).refused()) == ["id"]


tails = st.builds(
    Tail,
    node=st.sampled_from(["A", "B"]),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    first=st.integers(1, 9),
    last=st.integers(9, 99),
    n=st.integers(1, 99),
    at_ns=st.integers(0, 2**62),
    answered=st.none() | st.integers(0, 9),
    kinds=st.dictionaries(st.text(max_size=5), st.integers(1, 9), max_size=3),
)
entries = st.builds(Entry, tail=tails, fate=st.just("reapplied"), result=st.just(RESULT)) | st.builds(Entry, tail=tails)


@hypothesis.settings(max_examples=30)
@hypothesis.given(st.lists(entries, max_size=12))
def test_what_is_projected_can_be_restored_in_its_order(made: list[Entry]) -> None:
    state = Quarantine(entries=tuple(made))
    rows = NOUN.project(state)
    assert all(set(row) == {column.name for column in NOUN.table.columns} for row in rows)
    assert NOUN.restore(list(reversed(rows))) == state
    in_state(NOUN, state).when(Note(tail=TAIL)).then(Added(tail=TAIL))


def test_no_row_is_an_empty_quarantine() -> None:
    assert NOUN.restore([]) == NOUN.initial == Quarantine()
