"""Who outranks whom, and what the counters say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.carp_election import PairedElection, PlainElection, Rank, Refusal, counter_of, term_of
from middlewared.protocol.carp_packet import Frame

terms = st.integers(1, 2**24 - 1)
times = st.floats(0, 10**9, allow_nan=False)


def frame(counter: int, advbase: int = 1, advskew: int = 0) -> Frame:
    return Frame(vhid=1, advbase=advbase, advskew=advskew, counter=counter)


def plain(advbase: int = 1, advskew: int = 10, source: str = "192.0.2.2") -> PlainElection:
    return PlainElection(advbase + advskew / 256, 3 * advbase, source, 0)


@given(terms, times)
def test_the_counter_carries_the_term(term: int, now: float) -> None:
    assert term_of(counter_of(term, now)) == term
    assert counter_of(term, now) < 2**64


@given(terms, times, times)
def test_a_later_term_has_the_higher_counter_whatever_the_clock_says(term: int, before: float, after: float) -> None:
    assert counter_of(term - 1, before) < counter_of(term, after)


@given(st.lists(times, min_size=2, max_size=20))
def test_counters_rise_even_when_the_clock_does_not(moments: list[float]) -> None:
    election = PairedElection()
    election.admit(5)
    counters = [election.next_counter(now) for now in moments]
    assert counters == sorted(set(counters))


def test_a_counter_that_does_not_rise_is_a_replay() -> None:
    election = PairedElection()
    assert election.judge(frame(counter_of(3, 10)), "192.0.2.1", master=False) is Rank.BETTER
    assert election.judge(frame(counter_of(3, 10)), "192.0.2.1", master=False) is Refusal.REPLAY
    assert election.judge(frame(counter_of(3, 9)), "192.0.2.1", master=False) is Refusal.REPLAY
    assert election.judge(frame(counter_of(3, 11)), "192.0.2.1", master=False) is Rank.BETTER


def test_a_backup_does_not_take_a_term_that_is_over_for_a_sign_of_life() -> None:
    election = PairedElection()
    election.learn(7)
    assert election.judge(frame(counter_of(6, 10)), "192.0.2.1", master=False) is Refusal.STALE


def test_a_master_hears_a_rival_of_an_older_or_equal_term_and_outranks_it_whatever_its_advskew() -> None:
    election = PairedElection()
    election.admit(7)
    assert election.judge(frame(counter_of(6, 10), advbase=0, advskew=0), "0.0.0.1", master=True) is Rank.WORSE
    assert election.judge(frame(counter_of(7, 10), advbase=0, advskew=0), "0.0.0.1", master=True) is Rank.WORSE
    assert election.judge(frame(counter_of(8, 10), advbase=255), "255.0.0.1", master=True) is Rank.BETTER


def test_a_grant_below_the_highest_known_term_is_refused() -> None:
    election = PairedElection()
    election.judge(frame(counter_of(9, 10)), "192.0.2.1", master=False)
    assert election.admit(8) == "term 8 was granted, but term 9 is known"
    assert election.admit(10) is None
    assert election.admit(10) is None


def test_a_term_that_does_not_fit_the_counter_is_refused() -> None:
    assert PairedElection().admit(2**24) is not None
    assert PairedElection().admit(0) is not None


def test_our_own_frame_that_a_loop_sends_back_is_no_rival() -> None:
    election = PairedElection()
    election.admit(7)
    counter = election.next_counter(10)
    assert election.judge(frame(counter), "192.0.2.1", master=True) is Refusal.OWN


def test_in_a_plain_election_the_lower_interval_wins() -> None:
    assert plain().judge(frame(1, advskew=9), "192.0.2.1", master=True) is Rank.BETTER
    assert plain().judge(frame(1, advskew=11), "192.0.2.1", master=True) is Rank.WORSE


def test_in_a_plain_election_the_lower_address_wins_a_tie() -> None:
    assert plain().judge(frame(1, advskew=10), "192.0.2.1", master=True) is Rank.BETTER
    assert plain().judge(frame(1, advskew=10), "192.0.2.3", master=True) is Rank.WORSE


def test_in_a_plain_election_a_random_counter_is_no_replay() -> None:
    election = plain()
    for counter in (2**63, 5, 5, 0):
        assert election.judge(frame(counter), "192.0.2.1", master=False) is Rank.BETTER


def test_a_master_that_will_be_late_is_leaving() -> None:
    assert plain().judge(frame(1, advbase=255, advskew=255), "192.0.2.1", master=False) is Rank.LEAVING


def test_the_plain_counter_wraps() -> None:
    election = PlainElection(1.0, 3.0, "192.0.2.1", 2**64 - 1)
    assert election.next_counter(0) == 0
    assert election.admit(1) is not None
