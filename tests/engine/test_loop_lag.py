"""How long the process stood still is remembered for a minute."""

from __future__ import annotations

import pytest

from middlewared.engine.loop_lag import LoopLag
from tests.hand_clock import HandClock


def test_the_longest_of_the_last_minute_is_told() -> None:
    clock = HandClock()
    lag = LoopLag(clock)
    assert lag.worst_s == 0.0
    for due, woke in ((100.0, 101.5), (101.6, 101.6), (120.0, 120.2)):
        clock.now = woke
        lag.woke(due)
    assert lag.worst_s == pytest.approx(1.5)
    clock.now = 161.6
    lag.woke(161.6)
    assert lag.worst_s == pytest.approx(0.2)
