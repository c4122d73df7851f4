from __future__ import annotations

import errno

import msgspec

from middlewared.protocol import peer_calls
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.peer_calls import (
    ASKS_LIMIT,
    AWAY,
    FEATURE,
    MAX_ANSWER,
    OLD,
    Action,
    Answer,
    Ask,
    Carry,
    Done,
    Down,
    Ended,
    Fault,
    Got,
    PeerCalls,
    Send,
    Stop,
    Tick,
    Unwanted,
    Up,
    Wanted,
)


def connected() -> PeerCalls:
    made = PeerCalls()
    assert list(made.receive(Up(frozenset({FEATURE})), 0.0)) == []
    return made


def wanted(key: int = 1, method: str = "alert.mine", timeout_s: float = 2.0) -> Wanted:
    return Wanted(key, method, ("x", 3), timeout_s)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def carry(one: PeerCalls, other: PeerCalls, actions: list[Action], now: float = 0.0) -> list[Action]:
    """What the other says to the frames that this side sends, each by way of its bytes."""
    said: list[Action] = []
    for action in actions:
        assert isinstance(action, Send)
        frame = frames.decode(frames.encode(action.frame))
        assert isinstance(frame, Ask | Answer)
        said += other.receive(Got(frame), now)
    return said


def test_a_question_goes_over_is_carried_out_and_its_answer_comes_back_to_who_asked() -> None:
    here, there = connected(), connected()
    carried = carry(here, there, list(here.receive(wanted(key=7), 0.0)))
    assert carried == [Carry(1, "alert.mine", ("x", 3))]
    answer = list(there.receive(Done(1, raw({"n": [1, None]})), 0.1))
    assert carry(there, here, answer) == [Ended(7, {"n": [1, None]})]
    assert here.deadline() is None
    assert there.deadline() is None


def test_a_fault_keeps_its_errno_and_its_sentence() -> None:
    here, there = connected(), connected()
    carry(here, there, list(here.receive(wanted(), 0.0)))
    told = carry(there, here, list(there.receive(Done(1, Fault(errno.EINVAL, "n is negative")), 0.1)))
    assert told == [Ended(1, Fault(errno.EINVAL, "n is negative"))]


def test_answers_may_overtake_each_other() -> None:
    here, there = connected(), connected()
    for key in (1, 2):
        carry(here, there, list(here.receive(wanted(key), 0.0)))
    assert carry(there, here, list(there.receive(Done(2, raw("second")), 0.1))) == [Ended(2, "second")]
    assert carry(there, here, list(there.receive(Done(1, raw("first")), 0.1))) == [Ended(1, "first")]


def test_without_a_line_the_asker_is_told_at_once() -> None:
    assert PeerCalls().receive(wanted(), 0.0) == [Ended(1, AWAY)]


def test_a_peer_that_did_not_name_the_feature_is_sent_nothing() -> None:
    here = PeerCalls()
    here.receive(Up(frozenset({"digest"})), 0.0)
    assert here.receive(wanted(), 0.0) == [Ended(1, OLD)]


def test_a_line_that_goes_down_ends_the_questions_of_both_sides() -> None:
    here, there = connected(), connected()
    carry(here, there, list(here.receive(wanted(), 0.0)))
    assert here.receive(Down(), 0.1) == [Ended(1, AWAY)]
    assert there.receive(Down(), 0.1) == [Stop(1)]
    assert there.receive(Done(1, raw("late")), 0.2) == []


def test_a_question_that_is_not_answered_in_time_ends_for_the_asker_and_for_the_answerer() -> None:
    here, there = connected(), connected()
    carry(here, there, list(here.receive(wanted(timeout_s=2.0), 10.0)), now=10.1)
    assert here.deadline() == 12.0
    assert here.receive(Tick(), 11.9) == []
    (ended,) = here.receive(Tick(), 12.0)
    assert ended == Ended(1, Fault(errno.ETIMEDOUT, "The other controller did not answer alert.mine within 2 s"))
    assert there.receive(Tick(), 12.1) == [Stop(1)]
    assert here.receive(Got(Answer(1, "late")), 12.2) == []


def test_an_answer_to_a_question_that_nobody_asked_is_dropped() -> None:
    assert connected().receive(Got(Answer(99, "x")), 0.0) == []


def test_who_no_longer_wants_the_answer_is_not_told_it() -> None:
    here = connected()
    here.receive(wanted(key=5), 0.0)
    here.receive(Unwanted(5), 0.1)
    assert here.deadline() is None
    assert here.receive(Got(Answer(1, "x")), 0.2) == []


def test_no_more_than_the_limit_are_under_way_on_either_side() -> None:
    here, there = connected(), connected()
    for key in range(ASKS_LIMIT):
        carry(here, there, list(here.receive(wanted(key), 0.0)))
    assert here.receive(wanted(99), 0.0) == [Ended(99, peer_calls.BUSY)]
    refused = there.receive(Got(Ask(1000, "m", (), 2000)), 0.0)
    assert refused == [Send(Answer(1000, error=peer_calls.BUSY))]


def test_an_answer_that_is_too_large_for_a_frame_becomes_a_fault() -> None:
    here, there = connected(), connected()
    carry(here, there, list(here.receive(wanted(), 0.0)))
    (told,) = carry(there, here, list(there.receive(Done(1, raw("x" * MAX_ANSWER)), 0.1)))
    assert isinstance(told, Ended)
    assert isinstance(told.outcome, Fault)
    assert told.outcome.errno == errno.EMSGSIZE


def test_the_largest_answer_fits_a_frame() -> None:
    there = connected()
    there.receive(Got(Ask(2**40, "m", (), 2000)), 0.0)
    (action,) = there.receive(Done(2**40, raw("x" * (MAX_ANSWER - 5))), 0.1)
    assert isinstance(action, Send)
    assert MAX_ANSWER < len(frames.encode(action.frame)) <= frames.MAX_FRAME


def test_a_peer_cannot_keep_a_question_open_for_ever() -> None:
    there = connected()
    there.receive(Got(Ask(1, "m", (), 10**12)), 5.0)
    assert there.deadline() == 5.0 + peer_calls.TIMEOUT_LIMIT_S
