"""How many of which disks are a majority, also while the disks that vote are being changed.

A *set* is 3 or 5 disks that vote. While one set is replaced by another, both vote, and a majority of each is needed for
whatever a majority is needed for: a term, the record, the heartbeat. Two majorities of one set share a disk, so whoever
decides by the old set, by both, or by the new one shares a disk with whoever decides by both; and nobody decides by the
new one alone before everybody has left the old one alone behind. That is joint consensus (Ongaro, Consensus: Bridging
Theory and Practice, 2014, section 4.3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec


class Quorum(msgspec.Struct, frozen=True):
    """sets: each of disks' names. None at all: there are no shared disks, and nothing is a majority."""

    sets: tuple[tuple[str, ...], ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """Every disk that votes, once."""
        return tuple(dict.fromkeys(name for names in self.sets for name in names))

    def sets_of(self, name: str) -> tuple[int, ...]:
        return tuple(number for number, names in enumerate(self.sets) if name in names)

    def has(self, names: Collection[str]) -> bool:
        """Whether `names` hold a majority of each set."""
        return bool(self.sets) and all(_needed(voters) <= sum(name in names for name in voters) for voters in self.sets)

    def last(self, times: Mapping[str, float]) -> float | None:
        """Until when a majority has done something, given when each did it last. None: no majority has."""
        if not self.has(times):
            return None
        return min(sorted((times[n] for n in v if n in times), reverse=True)[_needed(v) - 1] for v in self.sets)

    def since(self, times: Mapping[str, float]) -> float | None:
        """Since when a majority has been so, given since when each has. None: no majority is."""
        if not self.has(times):
            return None
        return max(sorted(times[n] for n in v if n in times)[_needed(v) - 1] for v in self.sets)


def _needed(voters: Sequence[str]) -> int:
    return len(voters) // 2 + 1


class Voting(Protocol):
    """A disk that votes in some of the sets, by their numbers."""

    @property
    def sets(self) -> tuple[int, ...]: ...


V = TypeVar("V", bound=Voting)


def majority(some: Sequence[V], voters: Sequence[V]) -> bool:
    """Whether `some` of the voters are a majority of each set that there is."""
    numbers = {number for voter in voters for number in voter.sets}
    return bool(numbers) and all(_of(number, some) > _of(number, voters) // 2 for number in numbers)


def _of(number: int, voters: Sequence[V]) -> int:
    return sum(number in voter.sets for voter in voters)
