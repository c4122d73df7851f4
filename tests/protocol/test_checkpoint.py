"""Digests are compared at the same seq only, and what was said counts as long as the line and the log stand."""

from __future__ import annotations

import pytest

from middlewared.protocol.checkpoint import FIRST_S, IDLE_S, KEPT, Agreement, Disagreement, Verdict


@pytest.fixture
def agreement() -> Agreement:
    return Agreement("shape")


def test_what_one_side_alone_has_said_tells_nothing(agreement: Agreement) -> None:
    assert agreement.here(256, "x") is Verdict.UNKNOWN
    assert agreement.there(512, "x") is Verdict.UNKNOWN
    assert (agreement.equal_at, agreement.answer) == (0, (0, ""))


def test_it_does_not_matter_who_speaks_first(agreement: Agreement) -> None:
    agreement.here(256, "x")
    assert agreement.there(256, "x") is Verdict.EQUAL
    agreement.there(512, "y")
    assert agreement.here(512, "y") is Verdict.EQUAL
    assert (agreement.equal_at, agreement.answer) == (512, (512, "y"))


def test_a_difference_is_kept_until_a_later_comparison_succeeds(agreement: Agreement) -> None:
    agreement.here(256, "x")
    assert agreement.there(256, "y") is Verdict.DIFFERENT
    assert agreement.differs == Disagreement(seq=256, here="x", there="y")
    assert (agreement.equal_at, agreement.answer) == (0, (256, "x"))
    agreement.here(300, "z")
    assert agreement.there(300, "z") is Verdict.EQUAL
    assert agreement.differs is None


def test_a_state_that_was_made_anew_is_compared_with_what_the_peer_said_before(agreement: Agreement) -> None:
    agreement.here(256, "x")
    agreement.there(256, "y")
    agreement.forget_here()
    assert agreement.here(256, "y") is Verdict.EQUAL


def test_what_the_peer_said_is_forgotten_with_the_line(agreement: Agreement) -> None:
    agreement.there(256, "x")
    agreement.line_down()
    assert agreement.here(256, "y") is Verdict.UNKNOWN


def test_what_was_said_of_a_tail_is_forgotten_when_it_is_cut(agreement: Agreement) -> None:
    for seq in (256, 300):
        agreement.here(seq, "x")
        agreement.there(seq, "x" if seq == 256 else "y")
    agreement.cut(260)
    assert (agreement.equal_at, agreement.differs, agreement.answer) == (256, None, (0, ""))
    assert agreement.here(300, "z") is Verdict.UNKNOWN
    agreement.cut(10)
    assert agreement.equal_at == 10


def test_only_so_many_are_remembered(agreement: Agreement) -> None:
    for number in range(KEPT + 1):
        agreement.here(number, "x")
    assert agreement.there(0, "x") is Verdict.UNKNOWN
    assert agreement.there(KEPT, "x") is Verdict.EQUAL


def test_a_peer_that_follows_is_asked_soon_and_a_change_is_compared_within_the_idle_time(agreement: Agreement) -> None:
    assert agreement.deadline() is None
    agreement.followed(10.0)
    assert agreement.deadline() == 10.0 + FIRST_S
    assert not agreement.due(10.5)
    assert agreement.due(11.0)
    agreement.here(7, "x")
    agreement.said(7, 11.0)
    agreement.answered(7, "x", 11.0)
    assert agreement.deadline() is None
    agreement.applied(7, 12.0)
    assert agreement.deadline() is None
    agreement.applied(8, 12.0)
    agreement.applied(9, 50.0)
    assert agreement.deadline() == 12.0 + IDLE_S


def test_a_digest_that_was_not_answered_is_asked_for_again(agreement: Agreement) -> None:
    agreement.said(300, 10.0)
    agreement.answered(256, "x", 10.0)
    agreement.answered(0, "", 10.0)
    assert agreement.due(10.0 + IDLE_S)
    assert agreement.deadline() == 10.0 + 2 * IDLE_S


def test_a_peer_that_differs_is_asked_again_soon_until_it_has_been_equal_twice(agreement: Agreement) -> None:
    agreement.here(256, "x")
    agreement.said(256, 10.0)
    agreement.answered(256, "y", 10.0)
    assert agreement.deadline() == 10.0 + FIRST_S
    agreement.answered(256, "y", 10.5)
    agreement.answered(256, "x", 10.6)
    assert agreement.differs is None
    assert agreement.due(10.0 + FIRST_S)
    agreement.here(260, "z")
    agreement.said(260, 11.1)
    agreement.answered(260, "z", 11.2)
    assert agreement.deadline() is None
