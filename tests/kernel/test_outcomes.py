from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel import outcomes
from middlewared.kernel.event import Record
from middlewared.kernel.outcomes import KEPT_NS, LIMIT, STEP_NS, Outcome, Outcomes, key_of

HOUR = STEP_NS


def record(
    seq: int, request_id: str = "", *, actor: str = "eva@10.0.0.5:1", term: int = 1, wall_ns: int = 0, kind: str = "k"
) -> Record:
    return Record(seq, term, "A", kind, 1, actor, request_id, wall_ns, b"{}", b"", b"")


def folded(records: Sequence[Record]) -> Outcomes:
    made = Outcomes()
    made.fold(records)
    return made


def test_given_a_record_of_a_request_when_it_is_folded_then_its_outcome_is_known() -> None:
    found = folded([record(1), record(2, "r", term=3, kind="network.vip.updated", wall_ns=5)])
    assert found.find(("r", "eva")) == Outcome(2, 2, 3, "network.vip.updated", 5)


def test_given_a_command_of_three_records_then_it_is_one_outcome() -> None:
    found = folded([record(n, "r") for n in (1, 2, 3)]).find(("r", "eva"))
    assert found is not None
    assert (found.first, found.last) == (1, 3)


def test_given_an_actor_that_asks_from_another_address_then_it_is_the_same_actor() -> None:
    assert key_of(record(1, "r", actor="eva@10.0.0.5:1")) == key_of(record(2, "r", actor="eva@[fe80::1]:9"))


def test_given_the_id_of_another_actor_then_nothing_is_known() -> None:
    assert folded([record(1, "r")]).find(("r", "adam")) is None


def test_given_the_same_id_again_later_then_the_first_outcome_stays() -> None:
    found = folded([record(1, "r"), record(2, "s"), record(3, "r")]).find(("r", "eva"))
    assert found is not None
    assert (found.first, found.last) == (1, 1)


def test_given_the_same_id_in_the_next_term_then_it_is_not_the_same_command() -> None:
    found = folded([record(1, "r", term=1), record(2, "r", term=2)]).find(("r", "eva"))
    assert found is not None
    assert found.last == 1


def test_given_records_that_nobody_asked_for_then_nothing_is_remembered() -> None:
    assert len(folded([record(1), record(2, actor="middlewared@A")])) == 0


def test_given_more_commands_than_are_kept_then_the_oldest_are_forgotten() -> None:
    made = folded([record(n, f"r{n}") for n in range(1, LIMIT + 11)])
    assert len(made) == LIMIT
    assert made.find(("r10", "eva")) is None
    assert made.find(("r11", "eva")) is not None


def test_given_a_day_of_log_time_then_what_is_older_is_forgotten() -> None:
    day = [record(1, "r")] + [record(2 + n, wall_ns=(n + 1) * HOUR) for n in range(24)]
    assert folded(day).find(("r", "eva")) is not None
    assert folded([*day, record(26, wall_ns=24 * HOUR + 1)]).find(("r", "eva")) is None


@pytest.mark.parametrize("jump", [10 * 365 * 24 * HOUR, -10 * 365 * 24 * HOUR])
def test_given_a_clock_that_jumps_ten_years_then_nothing_expires(jump: int) -> None:
    made = folded([record(1, "r"), record(2, wall_ns=jump), record(3, wall_ns=jump + 1)])
    assert made.find(("r", "eva")) is not None


def test_given_a_clock_that_jumps_to_and_fro_then_each_jump_counts_an_hour() -> None:
    far = 365 * 24 * HOUR
    hops = [record(2 + n, wall_ns=far if n % 2 == 0 else 0) for n in range(47)]
    assert folded([record(1, "r"), *hops]).find(("r", "eva")) is not None
    assert folded([record(1, "r"), *hops, record(49), record(50, wall_ns=far)]).find(("r", "eva")) is None


# Whatever the log is


LOGS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c", "d", "e"]),
        st.sampled_from(["eva@1", "eva@2", "adam@1"]),
        st.integers(0, 30 * HOUR),
    ),
    max_size=60,
)


def log_of(steps: list[tuple[str, str, int]]) -> list[Record]:
    return [record(n, id_, actor=actor, wall_ns=at) for n, (id_, actor, at) in enumerate(steps, 1)]


@given(LOGS, st.data())
def test_a_fold_that_goes_on_from_what_was_written_is_the_fold_of_the_whole_log(
    steps: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    log, cut = log_of(steps), data.draw(st.integers(0, len(steps)))
    written = folded(log[:cut]).delta(0)
    gone_on = Outcomes(written.ended, written.time)
    gone_on.fold(log[cut:])
    assert gone_on.delta(0) == folded(log).delta(0)


@given(LOGS, st.data())
def test_what_a_delta_says_brings_a_file_to_what_memory_holds(
    steps: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    log, cut = log_of(steps), data.draw(st.integers(0, len(steps)))
    made = folded(log[:cut])
    rows = {outcome.first: (key, outcome) for key, outcome in made.delta(0).ended}
    made.fold(log[cut:])
    delta = made.delta(cut)
    rows |= {outcome.first: (key, outcome) for key, outcome in delta.ended}
    rows = {first: row for first, row in rows.items() if first >= delta.oldest}
    assert list(rows.values()) == made.delta(0).ended


@given(LOGS)
def test_what_is_known_of_a_request_is_its_first_command_that_has_not_expired(
    steps: list[tuple[str, str, int]],
) -> None:
    log = log_of(steps)
    made = folded(log)
    walls = [0, *(each.wall_ns for each in log)]
    moved = [max(0, min(after - before, STEP_NS)) for before, after in pairwise(walls)]
    now = sum(moved)
    for key, outcome in made.delta(0).ended:
        assert sum(moved[: outcome.last]) == outcome.at_ns >= now - KEPT_NS
        assert {key_of(each) for each in log[outcome.first - 1 : outcome.last]} == {key}
        assert made.find(key) is outcome


def test_the_bounds_are_those_that_the_documents_promise() -> None:
    assert (outcomes.LIMIT, outcomes.KEPT_NS) == (100_000, 24 * 3600 * 10**9)
