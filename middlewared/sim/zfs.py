"""ZFS of a simulated controller: it belongs to the machine, and takes its time.

`sim.pools` has the pools. What is asked takes effect after a while, and not at all where the process that asked dies
before (shell/zfs/commands.py), or the machine loses power. A machine whose processes are frozen does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any, Protocol, TypeVar

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.kernel.pools import Dataset, Found, Health, Imported, Layout, Scan
from middlewared.sim.loop import Loop
from middlewared.sim.pools import MemoryPools, PoolDisks
from middlewared.sim.timeline import Timeline

T = TypeVar("T")

ASK_S = 0.02
CHANGE_S = 0.6
FROZEN_S = 0.1


class Told(Protocol):
    """Who sees what the machine does with pools."""

    def importing(self, guid: str) -> None:
        """It is asked for."""
        ...

    def imported(self, guid: str) -> None:
        """It is there."""
        ...

    def exporting(self, name: str) -> None:
        """It is asked for."""
        ...


class Zfs:
    """The machine's part. told: of each import and export.

    frozen: the whole machine is. hangs: what is asked waits, as it does for disks that answer nothing.
    """

    def __init__(self, timeline: Timeline, random: Random, node: Node, shared: PoolDisks, told: Told) -> None:
        self._timeline = timeline
        self._random = random
        self.told = told
        self._boot = 0
        self.pools = MemoryPools(shared, node)
        self.frozen = self.hangs = False

    def power_cut(self) -> None:
        self._boot += 1
        self.pools.lose_power()

    def of(self, loop: Loop) -> ProcessZfs:
        """As the process with this loop asks it."""
        return ProcessZfs(self, loop)

    def do(
        self,
        asker: Loop,
        usual_s: float,
        work: Callable[[], Coroutine[Any, Any, T]],
        tell: Callable[[T | PortFailed], None],
    ) -> None:
        """Do it after a while, and tell what came of it."""
        self._timeline.after(usual_s * (0.2 + self._random.random()), self._now, self._boot, asker, work, tell)

    def _now(
        self,
        boot: int,
        asker: Loop,
        work: Callable[[], Coroutine[Any, Any, T]],
        tell: Callable[[T | PortFailed], None],
    ) -> None:
        if boot != self._boot or asker.dead:
            return
        if self.frozen or self.hangs:
            self._timeline.after(FROZEN_S, self._now, boot, asker, work, tell)
            return
        try:
            work().send(None)
        except StopIteration as done:
            tell(done.value)
        except PortFailed as e:
            tell(e)


class ProcessZfs:
    """ports.PoolStore."""

    def __init__(self, zfs: Zfs, loop: Loop) -> None:
        self._zfs = zfs
        self._loop = loop

    async def imported(self) -> tuple[Imported, ...]:
        return await self._ask(ASK_S, self._zfs.pools.imported)

    async def found(self) -> tuple[Found, ...]:
        return await self._ask(ASK_S, self._zfs.pools.found)

    async def health(self, name: str) -> Health:
        return await self._ask(ASK_S, lambda: self._zfs.pools.health(name))

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        async def work() -> None:
            await self._zfs.pools.import_pool(guid, force=force)
            self._zfs.told.imported(guid)

        self._zfs.told.importing(guid)
        await self._ask(CHANGE_S, work)

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        self._zfs.told.exporting(name)
        await self._ask(CHANGE_S, lambda: self._zfs.pools.export_pool(name, force=force))

    async def create(self, name: str, layout: Layout, *, force: bool = False) -> str:
        return await self._ask(CHANGE_S, lambda: self._zfs.pools.create(name, layout, force=force))

    async def destroy(self, name: str) -> None:
        await self._ask(CHANGE_S, lambda: self._zfs.pools.destroy(name))

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        await self._ask(ASK_S, lambda: self._zfs.pools.scrub(name, stop=stop))

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        return await self._ask(CHANGE_S, lambda: self._zfs.pools.scan_over(name, told))

    async def datasets(self, pool: str) -> tuple[Dataset, ...]:
        return await self._ask(ASK_S, lambda: self._zfs.pools.datasets(pool))

    async def create_dataset(self, id: str, properties: Mapping[str, str]) -> None:  # noqa: A002
        await self._ask(ASK_S, lambda: self._zfs.pools.create_dataset(id, properties))

    async def set_dataset(self, id: str, properties: Mapping[str, str | None]) -> None:  # noqa: A002
        await self._ask(ASK_S, lambda: self._zfs.pools.set_dataset(id, properties))

    async def destroy_dataset(self, id: str, *, recursive: bool = False) -> None:  # noqa: A002
        await self._ask(ASK_S, lambda: self._zfs.pools.destroy_dataset(id, recursive=recursive))

    async def _ask(self, usual_s: float, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        answer = self._loop.create_future()

        def tell(what: T | PortFailed) -> None:
            if answer.done():
                return
            if isinstance(what, PortFailed):
                answer.set_exception(what)
            else:
                answer.set_result(what)

        self._zfs.do(self._loop, usual_s, work, tell)
        told: T = await answer
        return told
