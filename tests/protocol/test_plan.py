"""The step machines: every way through a plan, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol import plan
from middlewared.protocol.plan import (
    HANDOVER,
    OVER,
    PROMOTION,
    Action,
    Do,
    Done,
    Failed,
    Finish,
    Message,
    Over,
    Phase,
    Plan,
    Run,
    Tick,
    Undo,
    begin,
    receive,
)

NAMES = [step.name for step in HANDOVER.steps]


def play(which: Plan, *messages: Message | float) -> tuple[Run, list[str]]:
    """Hand in messages; a number lets so many seconds pass. What was done, in words."""
    now = 100.0
    run, actions = begin(which, now)
    told = _told(actions)
    for message in messages:
        now += message if isinstance(message, float) else 0.0
        run, actions = receive(run, Tick() if isinstance(message, float) else message, now)
        told += _told(actions)
    return run, told


def _told(actions: Sequence[Action]) -> list[str]:
    words = []
    for action in actions:
        match action:
            case Do(step=step):
                words.append(f"do {step.name}")
            case Undo(step=step):
                words.append(f"undo {step.name}")
            case Finish(phase=phase, why=why):
                words.append(f"{phase.value}: {why}" if why else phase.value)
    return words


def test_a_handover_does_its_steps_in_order() -> None:
    run, told = play(HANDOVER, *[Done()] * len(NAMES))
    assert told == [*(f"do {name}" for name in NAMES), "done"]
    assert [taken.step for taken in run.taken] == NAMES


def test_a_promotion_does_its_steps_in_order() -> None:
    assert play(PROMOTION, Done(), Done("tank 80 ms"), Done())[1] == ["do fence", "do import", "do serve", "done"]


def test_a_pool_that_cannot_be_exported_gives_everything_back_in_reverse() -> None:
    _, told = play(HANDOVER, Done(), Done(), Done(), Failed("tank is busy"), Done(), Done(), Done())
    assert told[4:] == ["undo export", "undo block", "undo drain", "undone: export: tank is busy"]


def test_an_export_that_does_not_come_back_ends_the_controller() -> None:
    _, told = play(HANDOVER, Done(), Done(), Done(), plan.EXPORT_LIMIT_S)
    assert told[-1] == "ended: export was not done within 4 s"


def test_a_tick_before_the_deadline_changes_nothing() -> None:
    run, told = play(HANDOVER, 1.0)
    assert told == ["do ask"] and run.phase is Phase.DOING


def test_a_step_without_an_undo_that_is_late_is_given_up_where_nothing_was_done() -> None:
    assert play(HANDOVER, 3.0)[1][-1] == "undone: ask was not done within 3 s"


def test_what_can_be_neither_finished_nor_taken_back_is_stuck() -> None:
    _, told = play(HANDOVER, Done(), Done(), Done(), Failed("busy"), Failed("no such pool"))
    assert told[-1] == "stuck: export: busy; and export could not be taken back: no such pool"


def test_nothing_is_taken_back_after_the_release() -> None:
    _, told = play(HANDOVER, *[Done()] * 5, Failed("the other one did not take the term"))
    assert told[-1] == "failed: taken: the other one did not take the term"


@pytest.mark.parametrize("steps", range(len(NAMES)))
def test_the_end_of_the_term_abandons_the_plan_wherever_it_is(steps: int) -> None:
    _, told = play(HANDOVER, *[Done()] * steps, Over("B owns"))
    assert told[-1] == "abandoned: B owns"


def test_a_promotion_that_fails_exports_what_it_imported() -> None:
    _, told = play(PROMOTION, Done(), Failed("tank: a disk is missing"), Done())
    assert told[-2:] == ["undo import", "undone: import: tank: a disk is missing"]


MESSAGES = st.one_of(
    st.just(Done()),
    st.just(Failed("no")),
    st.just(Over("over")),
    st.floats(0, 100),
)


@given(st.sampled_from([HANDOVER, PROMOTION]), st.lists(MESSAGES, max_size=30))
def test_whatever_happens_a_plan_says_one_thing_at_a_time_and_ends_once(
    which: Plan, messages: list[Message | float]
) -> None:
    run, told = play(which, *messages)
    ends = [word for word in told if not word.startswith(("do ", "undo "))]
    assert len(ends) == (1 if run.phase in OVER else 0)
    if ends:
        assert told[-1] == ends[0]
        assert run.deadline() is None
    done = [taken.step for taken in run.taken if taken.outcome == "done"]
    for step in which.steps:
        assert done.count(step.name) <= 1
        if f"undo {step.name}" in done:
            later = [s.name for s in which.steps[which.steps.index(step) :] if s.commits]
            assert not any(name in done for name in later), "nothing is taken back from a point of no return"
