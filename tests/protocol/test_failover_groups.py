"""Failover groups: over all partitions of up to six interfaces, and all ways in which they can be up or down (T7)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest

from middlewared.kernel.facts import FailoverGroup, Vip
from middlewared.protocol.failover_groups import effective, lost


def partitions(names: tuple[str, ...]) -> Iterator[list[tuple[str, ...]]]:
    """Every way to put the names into groups."""
    if not names:
        yield []
        return
    first, rest = names[0], names[1:]
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            left = tuple(name for name in rest if name not in others)
            yield from ([(first, *others), *more] for more in partitions(left))


def subsets(names: tuple[str, ...]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


@pytest.mark.parametrize("count", range(1, 7))
def test_a_group_is_lost_exactly_when_all_its_members_are_down(count: int) -> None:
    names = tuple(f"eth{n}" for n in range(count))
    worlds = 0
    for partition in partitions(names):
        groups = [FailoverGroup(number=n, interfaces=members) for n, members in enumerate(partition, 1)]
        for up in subsets(names):
            down = set(names) - up
            expected = [group.number for group in groups if set(group.interfaces) <= down]
            assert [group.number for group in lost(groups, up.__contains__)] == expected
            worlds += 1
    bell = (1, 1, 2, 5, 15, 52, 203)
    assert worlds == bell[count] * 2**count


def test_each_in_a_group_of_its_own_fails_at_the_first_and_all_in_one_at_the_last() -> None:
    names = ("eth0", "eth1", "eth2")
    alone = [FailoverGroup(number=n, interfaces=(name,)) for n, name in enumerate(names, 1)]
    together = [FailoverGroup(number=1, interfaces=names)]
    for up in subsets(names):
        assert bool(lost(alone, up.__contains__)) == (len(up) < 3)
        assert bool(lost(together, up.__contains__)) == (len(up) == 0)


def test_without_groups_each_interface_with_a_vip_is_one() -> None:
    vips = [
        Vip(vhid=n, address=f"192.0.2.{n}", prefix=24, interface=name) for n, name in ((1, "b"), (2, "a"), (3, "a"))
    ]
    assert effective((), vips) == (
        FailoverGroup(number=1, interfaces=("a",)),
        FailoverGroup(number=2, interfaces=("b",)),
    )
    chosen = (FailoverGroup(number=9, interfaces=("b",)),)
    assert effective(chosen, vips) == chosen


def test_a_group_without_members_is_never_lost() -> None:
    assert lost([FailoverGroup(number=1, interfaces=())], lambda _: False) == ()
