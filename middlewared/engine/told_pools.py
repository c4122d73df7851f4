"""ports.OwnedPools: a PoolStore, with fenced told of each pool before it can be here, and until it is certainly gone.

fenced ends a controller that has pools and loses the term to the other one. So what it is told is never less than what
is there: a change that fails, or whose outcome cannot be asked for, leaves the pool told.

And no import is forced, whoever asks for it, unless fenced says that nobody else can write the disks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import PoolName
from middlewared.kernel.pools import Dataset, Found, Health, Imported, Layout, Scan
from middlewared.ports import PoolStore


class ToldPools:
    """tell: states the guids of all pools that are, or may be, imported here.

    fenced: whether the disks are ours alone at this moment.
    """

    def __init__(self, store: PoolStore, tell: Callable[[Sequence[str]], None], fenced: Callable[[], bool]) -> None:
        self._store = store
        self._tell = tell
        self._fenced = fenced
        self._may_be_here: list[str] = []
        self._leaving: list[str] = []
        self._given_up: set[str] = set()
        self._one_look = asyncio.Lock()

    async def imported(self) -> Sequence[Imported]:
        return await self._store.imported()

    async def found(self) -> Sequence[Found]:
        return await self._store.found()

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        if force and not self._fenced():
            why = "it was not exported, and fenced does not say that the disks are ours"
            raise PortFailed(f"import pool {guid}", why)
        async with self._coming(guid):
            await self._store.import_pool(guid, force=force)

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        async with self._going(name):
            await self._store.export_pool(name, force=force)

    async def create(self, name: str, layout: Layout, *, force: bool = False) -> str:
        async with self._coming(f"new pool {name}"):
            return await self._store.create(name, layout, force=force)

    async def destroy(self, name: str) -> None:
        async with self._going(name):
            await self._store.destroy(name)

    async def health(self, name: str) -> Health:
        return await self._store.health(name)

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        await self._store.scrub(name, stop=stop)

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        return await self._store.scan_over(name, told)

    async def datasets(self, pool: str) -> Sequence[Dataset]:
        return await self._store.datasets(pool)

    async def create_dataset(self, id: str, properties: Mapping[str, str]) -> None:  # noqa: A002
        await self._store.create_dataset(id, properties)

    async def set_dataset(self, id: str, properties: Mapping[str, str | None]) -> None:  # noqa: A002
        await self._store.set_dataset(id, properties)

    async def destroy_dataset(self, id: str, *, recursive: bool = False) -> None:  # noqa: A002
        await self._store.destroy_dataset(id, recursive=recursive)

    async def look(self) -> Sequence[Imported]:
        """What is imported here at this moment; fenced is told. Raises PortFailed."""
        async with self._one_look:  # the later word is the newer one
            # What is seen may be older than what comes or goes meanwhile.
            came, gone = list(self._may_be_here), set(self._given_up)
            here = await self._store.imported()
            self._given_up -= {pool.guid for pool in here} & gone
            self._tell(sorted({*(pool.guid for pool in here), *came, *self._may_be_here}))
            return here

    async def missing(self, wanted: Sequence[PoolName]) -> Sequence[PoolName]:
        """Those that are not here, and are not given up here by anybody. Raises PortFailed."""
        here = {pool.guid for pool in await self.look()}
        return [pool for pool in wanted if pool.guid not in here.union(self._given_up, self._leaving)]

    def want_again(self, guid: str) -> None:
        self._given_up.discard(guid)

    @asynccontextmanager
    async def _coming(self, guid: str) -> AsyncIterator[None]:
        self._may_be_here.append(guid)
        await self.look()
        try:
            yield
        except PortFailed:
            self._may_be_here.remove(guid)
            await self.look()
            raise
        # Who is cancelled leaves it told: what was asked of ZFS goes on.
        self._may_be_here.remove(guid)
        await self.look()

    @asynccontextmanager
    async def _going(self, name: str) -> AsyncIterator[None]:
        """What is here afterwards is told, whatever became of it."""
        going = [pool.guid for pool in await self._store.imported() if pool.name == name]
        self._leaving += going
        try:
            yield
            self._given_up.update(going)
        finally:
            for guid in going:
                self._leaving.remove(guid)
            await self.look()
