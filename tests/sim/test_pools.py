"""ZFS of a simulated controller, and who may have a pool."""

from __future__ import annotations

from random import Random

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node, other
from middlewared.kernel.register import Register
from middlewared.sim.checkers.importers import OneImporter
from middlewared.sim.loop import Loop
from middlewared.sim.timeline import Clock, Timeline
from middlewared.sim.voter import Disk
from middlewared.sim.world import World
from middlewared.sim.zfs import Zfs


def a_world_with_pools() -> World:
    return next(world for world in map(World, range(20)) if world.pools)


def held(node: Node | None) -> Register:
    register = Register()
    return register.claim(node, 2, register.holding)[0] if node is not None else register


class Scene:
    """What the checker asks the world for. Everybody reaches all disks."""

    def __init__(self, owners: list[Node | None], importers: set[Node]) -> None:
        self._importers = importers
        self.disks = [Disk() for _ in owners]
        for disk, owner in zip(self.disks, owners, strict=True):
            disk.register = held(owner)

    def importers(self, _guid: str) -> set[Node]:
        return self._importers

    def disks_of(self, _node: Node) -> list[Disk]:
        return self.disks


def verdicts(owners: list[Node | None], importers: set[Node], node: Node = "B") -> list[str]:
    said: list[str] = []
    checker = OneImporter(Scene(owners, importers), lambda _, why: said.append(why))  # type: ignore[arg-type]
    checker.importing(node, "7")
    checker.imported(node, "7")
    return said


def test_who_holds_every_disk_may_import_what_the_other_one_still_has() -> None:
    assert verdicts(["B", "B", "B"], {"A", "B"}) == []


@pytest.mark.parametrize("third", ["A", None])
def test_who_leaves_a_disk_to_another_importer_may_not(third: Node | None) -> None:
    assert verdicts(["B", "B", third], {"A", "B"}) == ["B imported pool 7, which A has and can write on 1 disks"]
    assert verdicts(["B", "B", third], {"B"}) == []


def test_who_holds_no_disk_imports_nothing() -> None:
    assert verdicts(["A", "A", None], {"B"}) == ["B imported pool 7 and holds none of the disks"]


def test_who_knows_of_a_disk_that_another_importer_can_write_does_not_even_begin() -> None:
    said: list[str] = []
    scene = Scene(["B", "A"], {"A"})
    checker = OneImporter(scene, lambda _, why: said.append(why))  # type: ignore[arg-type]
    checker.importing("B", "7")
    scene.disks[1].tell("B", held("A").holding)
    checker.importing("B", "7")
    assert said == ["B begins to import pool 7, and knows that A has 1 of its disks"]


def test_a_disk_that_another_holds_takes_no_write() -> None:
    world = a_world_with_pools()
    path = world.pool_disks.disks[0].path
    for node in ("A", "B"):
        assert world.pool_disks.writable(node, path)
    world.disks[0].register = held("A")
    assert [world.pool_disks.writable(node, path) for node in ("A", "B")] == [True, False]
    world.disks[0].dead = True
    assert world.pool_disks.writable("A", path) is None


class Machine:
    """One controller's ZFS, and a process that asks it: zfs.Told."""

    def __init__(self) -> None:
        world = a_world_with_pools()
        self.timeline = Timeline()
        self.seen: list[str] = []
        self.guid = world.pools[0].guid
        self.zfs = Zfs(self.timeline, Random(1), "A", world.pool_disks, self)
        self.loop = Loop(self.timeline, Clock(self.timeline, 1.0, 0.0), lambda _: None)
        self.process = self.zfs.of(self.loop)
        self.said: list[str] = []

    def importing(self, guid: str) -> None:
        pass

    def imported(self, guid: str) -> None:
        self.seen.append(guid)

    def exporting(self, name: str) -> None:
        pass

    def begin_import(self) -> None:
        self.loop.spawn(self._import)

    async def _import(self) -> None:
        try:
            await self.process.import_pool(self.guid)
            self.said.append("imported")
        except PortFailed as e:
            self.said.append(e.reason)


def test_what_was_asked_of_zfs_dies_with_who_asked() -> None:
    machine = Machine()
    machine.begin_import()
    machine.timeline.run_until(0.01)
    machine.loop.kill()
    machine.timeline.run_until(2.0)
    assert (machine.said, machine.seen) == ([], [])


def test_what_was_asked_before_a_power_cut_is_not_done() -> None:
    machine = Machine()
    machine.begin_import()
    machine.timeline.run_until(0.01)
    machine.zfs.power_cut()
    machine.timeline.run_until(2.0)
    assert machine.seen == []


def test_a_frozen_machine_does_it_when_it_thaws() -> None:
    machine = Machine()
    machine.begin_import()
    machine.timeline.run_until(0.01)
    machine.zfs.frozen = True
    machine.timeline.run_until(3.0)
    assert machine.seen == []
    machine.zfs.frozen = False
    machine.timeline.run_until(4.0)
    assert machine.said == ["imported"]


def test_in_a_world_with_pools_the_owner_has_them_when_all_is_over() -> None:
    world = a_world_with_pools()
    assert world.run().violations == ()
    for pool in world.pools:
        (owner,) = world.importers(pool.guid)
        assert not world.importers(pool.guid) & {other(owner)}
