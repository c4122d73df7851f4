"""Two controllers that share pools, each with its succession and a stand-in for its fenced."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from middlewared.engine.own_pools import OwnPools
from middlewared.engine.succession import Succession
from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import CallFailed, PortFailed
from middlewared.kernel.facts import Node, PoolName
from middlewared.kernel.pools import Layout, Vdev
from middlewared.kernel.transition import Transition
from middlewared.protocol import hub
from middlewared.shell.clock import SystemClock
from middlewared.sim.pools import MemoryPools, PoolDisks
from middlewared.store.transitions import Transitions
from tests.engine.controllers import until
from tests.engine.standing import standing

TANK = Layout(data=(Vdev(type="MIRROR", devices=("/dev/shelf/0", "/dev/shelf/1")),))


class Writes:
    """engine.handover.Writes, level at once unless told otherwise."""

    def __init__(self) -> None:
        self.closing: str | None = None
        self.level: int | None = 7
        self.digest = "equal"

    def level_with_peer(self) -> int | None:
        return self.level

    async def state_digest(self) -> tuple[int, str]:
        return 7, self.digest


class Zfs(MemoryPools):
    """refuses: what every export, or import, is refused with. hangs: an export that never comes back."""

    def __init__(self, disks: PoolDisks, host: str) -> None:
        super().__init__(disks, host)
        self.no_export = ""
        self.no_import = ""
        self.hangs = False

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        if self.no_import:
            raise PortFailed("import", self.no_import)
        await super().import_pool(guid, force=force)

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.no_export:
            raise PortFailed("export", self.no_export)
        await super().export_pool(name, force=force)


class Side:
    """One controller. It stands in for fenced, too: what fenced is told changes where it stands."""

    def __init__(self, node: Node, disks: PoolDisks, directory: Path) -> None:
        self.node: Node = node
        self.zfs = Zfs(disks, f"controller-{node}")
        self.writes = Writes()
        self.peer: Side
        self.configured_pools: tuple[PoolName, ...] | None = ()
        self.told: list[str] = []
        self.imported: tuple[str, ...] = ()
        self.ended = ""
        self.term = 1
        self.standing = standing("STANDBY", 1)
        self.pools_told = ToldPools(self.zfs, self.pools, lambda: self.standing.fenced)
        self.kept = Transitions(directory / f"{node}.jsonl")
        self.succession = Succession(
            node,
            SystemClock(),
            self,
            OwnPools(self.pools_told, lambda: self.configured_pools),
            self.writes,
            self.ask,
            self.kept,
            vips_up=lambda: False,
        )
        self.deaf = False

    async def ask(self, method: str, *params: object, timeout_s: float = 2.0) -> object:
        if self.deaf or self.peer.deaf:
            raise CallFailed(107, "the other controller is away")
        return await self.peer.succession.answer(method, params)

    # fenced

    def own(self, term: int, *, rule: str = "GONE") -> None:
        self.say(role="OWNER", term=term, serves=not self.configured_pools, rule=rule)

    def stand_by(self, why: str = "the peer owns", **more: object) -> None:
        self.say(role="STANDBY", serves=False, leaving=None, why=why, **more)

    def say(self, **changes: object) -> None:
        fencing = hub.Fencing(fenced=True, disks=3, reachable=3, held=3)
        self.standing = msgspec.structs.replace(self.standing, **{"fencing": fencing, **changes})
        self.succession.heard(self.standing)

    def pools(self, imported: Sequence[str], fault: str | None = None) -> None:
        self.imported = tuple(imported)
        if self.standing.leaving is not None and not imported:
            self.told.append("pools gone")

    def serve(self, term: int) -> None:
        if term == self.standing.term and not self.standing.serves:
            self.told.append("serve")
            self.say(serves=True)

    def block(self, term: int, why: str) -> None:
        self.told.append("block")
        self.say(serves=False)

    def resign(self, why: str, *, failed: bool = False) -> None:
        assert not self.imported
        self.told.append("resign failed" if failed else "resign")
        self.stand_by(failed=why if failed else None)
        if not failed:
            asyncio.get_running_loop().call_soon(self.peer.own, self.standing.term + 1)

    def end(self, why: str) -> None:
        self.ended = why
        self.stand_by()


class World:
    def __init__(self, directory: Path) -> None:
        self.disks = PoolDisks()
        self.a = Side("A", self.disks, directory)
        self.b = Side("B", self.disks, directory)
        self.a.peer, self.b.peer = self.b, self.a

    async def make_pool(self, name: str = "tank") -> None:
        guid = await self.a.zfs.create(name, TANK)
        for side in (self.a, self.b):
            side.configured_pools = (PoolName(name=name, guid=guid),)

    @property
    def importers(self) -> set[str]:
        return {host for hosts in self.disks.importers.values() for host in hosts}


async def a_serves(world: World) -> None:
    await world.make_pool()
    world.a.own(2)
    await until(lambda: world.a.standing.serves)
    await until(lambda: last(world.a).outcome == "done")


def last(side: Side) -> Transition:
    return side.kept.all()[-1]


def steps(transition: Transition) -> list[str]:
    return [step.name for step in transition.steps]


def ignore(_: Transition) -> None:
    return None
