"""Which faults a world has, and when they strike.

Each seed enables some kinds, each with a pace of its own, and leaves the others out: two faults that rarely meet in a
world where everything happens at once meet often in one where only they happen (swarm testing: Groce et al., ISSTA
2012).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from middlewared.sim import faults, role_faults


class Kind(NamedTuple):
    """usual: in how many seeds of ten it is enabled. lasts_s: at most."""

    strike: Callable[[faults.World], faults.Undo]
    usual: float
    lasts_s: float


KINDS: tuple[Kind, ...] = (
    Kind(faults.crash_middlewared, 4, 0.0),
    Kind(faults.crash_fenced, 2, 0.0),
    Kind(faults.power, 4, 4.0),
    Kind(faults.power_of_both, 2, 4.0),
    Kind(faults.freeze, 3, 5.0),
    Kind(faults.slow, 2, 3.0),
    Kind(faults.line_cut, 3, 4.0),
    Kind(faults.one_way, 3, 4.0),
    Kind(faults.line_reset, 4, 0.0),
    Kind(faults.interlink, 2, 4.0),
    Kind(faults.partition, 3, 5.0),
    Kind(faults.bad_words, 3, 5.0),
    Kind(faults.bad_clients, 3, 5.0),
    Kind(faults.cables, 3, 4.0),
    Kind(faults.bad_cables, 3, 4.0),
    Kind(faults.disks, 2, 4.0),
    Kind(faults.stalls, 3, 4.0),
    Kind(faults.commit_fails, 2, 0.0),
    Kind(faults.disk_full, 1, 2.0),
    Kind(faults.state_db_lost, 1, 0.0),
    Kind(faults.wall_clock, 2, 0.0),
    Kind(faults.resign, 2, 0.0),
    Kind(faults.force, 1, 0.0),
    Kind(faults.force_both, 0.5, 0.0),
    Kind(faults.disabled, 1, 3.0),
    Kind(faults.default_node, 1, 0.0),
)

RARE: tuple[Kind, ...] = (
    Kind(faults.late_records, 1, 4.0),
    Kind(faults.hand_over, 1, 0.0),
    Kind(faults.force_in_vain, 1, 2.0),
    Kind(faults.become_passive, 3, 0.0),
    Kind(role_faults.lan_lost, 2, 4.0),
    Kind(role_faults.lan_lost_at_both, 1, 4.0),
    Kind(role_faults.flapping_lan, 1, 5.0),
    Kind(role_faults.all_networks, 1, 4.0),
    Kind(role_faults.crash_carpd, 2, 0.0),
    Kind(role_faults.pool_ports, 2, 4.0),
    Kind(role_faults.zfs_hangs, 1, 8.0),
    Kind(role_faults.blink, 1, 0.0),
    Kind(role_faults.cut_off, 1, 8.0),
)
"""Whether a seed has one of these is drawn from a number of its own: the worlds without them stay what they were."""
RARE_EVERY_S = 1.0


class Swarm:
    """The kinds that this world has, and what of them is under way. rare: draws those of RARE."""

    def __init__(self, world: faults.World, rare: Random) -> None:
        self._world = world
        self._over = False
        self._under_way: list[faults.Undo] = []
        random = world.random
        self._kinds = [(kind, random.choice((0.5, 2.0, 6.0))) for kind in KINDS if random.random() * 10 < kind.usual]
        self._kinds += [(kind, RARE_EVERY_S) for kind in RARE if rare.random() * 10 < kind.usual]
        self.counts: dict[str, int] = {}

    def start(self) -> None:
        for kind, every_s in self._kinds:
            self._wait(kind, every_s)

    def stop(self) -> None:
        """Undo all; nothing happens any more."""
        self._over = True
        under_way, self._under_way = self._under_way, []
        for undo in under_way:
            undo()

    def _wait(self, kind: Kind, every_s: float) -> None:
        self._world.timeline.after(self._world.random.expovariate(1 / every_s), self._strike, kind, every_s)

    def _strike(self, kind: Kind, every_s: float) -> None:
        if self._over:
            return
        name = kind.strike.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        undo = kind.strike(self._world)
        lasts_s = self._world.random.random() * kind.lasts_s
        if kind.lasts_s:
            self._under_way.append(undo)
            self._world.timeline.after(lasts_s, self._undo, undo)
        self._world.timeline.after(lasts_s, self._wait, kind, every_s)

    def _undo(self, undo: faults.Undo) -> None:
        if undo in self._under_way:
            self._under_way.remove(undo)
            undo()
