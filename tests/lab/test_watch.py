"""What is made of the probe's lines."""

from __future__ import annotations

from middlewared.lab.probe import Line
from middlewared.lab.watch import TTL, Course, course_of

MS = 1_000_000
OLD, NEW = TTL["A"], TTL["B"]


def line(at_ms: int, ttl: int, silence_ms: int = 1, *, why: str = "still", old: int = 0, new: int = 0) -> Line:
    """A reply `silence_ms` after the one before; old, new: how many replies there were of each."""
    before = at_ms - silence_ms
    counts = {OLD: old, NEW: new}
    return Line(why=why, at_ns=at_ms * MS, before_ns=before * MS, ttl=ttl, before_ttl=OLD, counts=counts)


def course(*lines: Line, now_ms: int) -> Course:
    return course_of(lines, OLD, NEW, 1000 * MS, now_ms * MS)


def test_an_outage_is_the_longest_silence_since_the_fault_whoever_answers_next() -> None:
    seen = course(
        line(900, OLD, 500, why="gap", old=10),
        line(1020, OLD, 20, why="gap", old=11),
        line(1330, NEW, 310, why="owner", old=11, new=1),
        now_ms=1400,
    )
    assert seen == Course(outage_ms=310.0, answers=True, moved=True, double=0)


def test_a_silence_that_lasts_counts_from_the_last_reply_or_from_the_fault() -> None:
    assert course(line(1100, OLD, old=10), now_ms=4100) == Course(
        outage_ms=3000.0, answers=False, moved=False, double=0
    )
    assert course(line(500, OLD, old=10), now_ms=4100).outage_ms == 3100.0


def test_replies_of_the_old_owner_after_the_first_of_the_new_one_are_double() -> None:
    seen = course(
        line(1300, NEW, 300, why="owner", old=10, new=1),
        line(1310, OLD, 1, why="owner", old=12, new=3),
        line(1400, NEW, 1, old=15, new=90),
        now_ms=1410,
    )
    assert (seen.moved, seen.double) == (True, 5)


def test_replies_that_go_on_are_no_outage() -> None:
    assert course(line(1100, OLD, old=99), now_ms=1150) == Course(outage_ms=0.0, answers=True, moved=False, double=0)
