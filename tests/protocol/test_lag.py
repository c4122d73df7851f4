from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.lag import MARKS, Lag


def test_nothing_waits_where_everything_is_applied() -> None:
    lag = Lag()
    assert lag.since() is None
    lag.made(3, 1.0)
    lag.made(5, 2.0)
    assert lag.since() == 1.0
    lag.reached(3)
    assert lag.since() == 2.0
    lag.reached(4)
    assert lag.since() == 2.0
    lag.reached(5)
    assert lag.since() is None


@given(count=st.integers(1, 4 * MARKS), reached=st.integers(0, 4 * MARKS))
def test_marks_are_bounded_and_what_waits_is_never_made_younger(count: int, reached: int) -> None:
    lag = Lag()
    for seq in range(1, count + 1):
        lag.made(seq, float(seq))
    lag.reached(reached)
    since = lag.since()
    assert len(lag._marks) <= MARKS
    assert (since is None) == (reached >= count)
    assert since is None or since <= reached + 1
