"""The real clock."""

from __future__ import annotations

import time

from middlewared.ports import Clock
from middlewared.shell.clock import SystemClock


def test_boottime_never_goes_back_and_counts_seconds_since_boot() -> None:
    clock: Clock = SystemClock()
    first, second = clock.boottime(), clock.boottime()
    assert 0 < first <= second
    assert first >= time.clock_gettime(time.CLOCK_MONOTONIC) - 1


def test_wall_time_is_in_nanoseconds() -> None:
    assert abs(SystemClock().wall_ns() / 1e9 - time.time()) < 5
