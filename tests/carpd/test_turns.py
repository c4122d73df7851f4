"""Turns: the stall is noticed first, and a failing turn is not hidden."""

from __future__ import annotations

import asyncio

import pytest

from middlewared.carpd.turns import Turns
from tests.hand_clock import HandClock


class Story:
    """What happened, in order."""

    def __init__(self, next_s: float = 60.0) -> None:
        self.clock = HandClock()
        self.lines: list[str] = []
        self.deadline = asyncio.Event()
        self._next_s = next_s
        self.turns = Turns(self.clock, 0.75, on_stall=self._on_stall, on_deadline=self._on_deadline, after=self._after)

    def work(self, now: float) -> None:
        self.lines.append(f"work {now}")

    def _on_stall(self, gap_s: float, now: float) -> None:
        self.lines.append(f"stall of {gap_s} at {now}")

    def _on_deadline(self, now: float) -> None:
        self.lines.append("deadline")
        self.deadline.set()

    def _after(self, now: float) -> float:
        self.lines.append("after")
        return now + self._next_s


async def test_a_turn_reads_the_clock_works_and_ends() -> None:
    story = Story()
    story.turns.take(story.work)
    story.turns.stop()
    assert story.lines == ["work 100.0", "after"]


async def test_after_a_stall_the_work_that_waited_is_not_done() -> None:
    story = Story()
    story.clock.now += 2.0
    story.turns.take(story.work)
    story.turns.take(story.work)
    story.turns.stop()
    assert story.lines == ["stall of 2.0 at 102.0", "after", "work 102.0", "after"]


async def test_a_turn_within_a_turn_is_part_of_it() -> None:
    story = Story()
    story.turns.take(lambda _: story.turns.take(story.work))
    story.turns.stop()
    assert story.lines == ["work 100.0", "after"]


async def test_the_next_deadline_is_kept() -> None:
    story = Story(next_s=0.01)
    story.turns.take(story.work)
    await asyncio.wait_for(story.deadline.wait(), 2)
    story.turns.stop()
    assert story.lines[:4] == ["work 100.0", "after", "deadline", "after"]


async def test_a_turn_that_fails_says_so_and_the_next_one_is_a_turn_again() -> None:
    story = Story()

    def fails(now: float) -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        story.turns.take(fails)
    story.turns.take(story.work)
    story.turns.stop()
    assert story.lines == ["work 100.0", "after"]
