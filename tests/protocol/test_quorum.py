"""Majorities of one set of disks, and of two while they are being changed."""

from __future__ import annotations

from itertools import chain, combinations

import msgspec

from middlewared.protocol.quorum import Quorum, majority

OLD, NEW = ("0", "1", "2"), ("2", "3", "4")
BOTH = Quorum((OLD, NEW))


class Disk(msgspec.Struct, frozen=True):
    sets: tuple[int, ...]


def every_subset() -> list[tuple[str, ...]]:
    names = BOTH.members
    return list(chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))


def test_a_majority_of_both_meets_every_majority_of_either_and_of_both() -> None:
    quorums = (Quorum((OLD,)), BOTH, Quorum((NEW,)))
    for some in filter(BOTH.has, every_subset()):
        for quorum in quorums:
            assert all(set(some) & set(other) for other in every_subset() if quorum.has(other))


def test_without_disks_nothing_is_a_majority() -> None:
    assert not Quorum().has(("0", "1"))
    assert not Quorum().has(())
    assert Quorum().last({}) is None
    assert not majority([], [])


def test_the_times_of_a_majority() -> None:
    one = Quorum((OLD,))
    assert one.last({"0": 1.0, "1": 5.0, "2": 9.0}) == 5.0
    assert one.since({"0": 1.0, "1": 5.0, "2": 9.0}) == 5.0
    assert one.last({"0": 1.0, "3": 5.0}) is None
    both = {"0": 1.0, "1": 5.0, "2": 9.0, "3": 2.0}
    assert BOTH.last(both) == 2.0, "of the new ones two did it, the later at 9, the other at 2"
    assert BOTH.since(both) == 9.0


def test_states_say_the_same_as_names() -> None:
    disks = {name: Disk(BOTH.sets_of(name)) for name in (*BOTH.members, "9")}
    for some in every_subset():
        assert majority([disks[name] for name in some], list(disks.values())) == BOTH.has(some)
