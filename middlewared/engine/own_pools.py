"""The pools that this controller is to have while it owns: all that are configured, side by side."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import CallFailed, MiddlewareError, PortFailed
from middlewared.kernel.facts import PoolName


class Named(Protocol):
    """A pool, for people."""

    @property
    def name(self) -> str: ...


class OwnPools:
    """store None: the boot file names no ZFS. configured: None while nothing was stated."""

    def __init__(self, store: ToldPools | None, configured: Callable[[], tuple[PoolName, ...] | None]) -> None:
        self._store = store
        self._configured = configured

    @property
    def configured(self) -> tuple[PoolName, ...] | None:
        return self._configured()

    async def look(self) -> Sequence[Named]:
        """What is imported here at this moment; fenced is told. Raises PortFailed."""
        return await self._store.look() if self._store is not None else ()

    async def missing(self) -> Sequence[PoolName]:
        """Configured pools that should be here while this controller serves, and are not. Raises PortFailed."""
        wanted = self.configured
        return await self._store.missing(wanted) if self._store is not None and wanted else ()

    async def import_all(self, *, force: bool) -> tuple[list[str], list[str]]:
        """Import what is configured and not here yet: (what was done, what could not be done), in words.

        Raises PortFailed where it cannot even be told what is here.
        """
        wanted = self.configured or ()
        if not wanted:
            return [], []
        if self._store is None:
            return [], ["this controller has no ZFS"]
        here = {pool.guid for pool in await self._store.look()}
        missing = [pool for pool in wanted if pool.guid not in here]
        return await _all(missing, [self._store.import_pool(pool.guid, force=force) for pool in missing])

    async def why_not_importable(self) -> str:
        """What this controller lacks to import every configured pool; empty where nothing. Raises PortFailed."""
        wanted = self.configured
        if wanted is None:
            return "its configuration is not known yet"
        if not wanted:
            return ""
        if self._store is None:
            return "it has no ZFS"
        seen = {pool.guid for pool in await self._store.found()}
        missing = [pool.name for pool in wanted if pool.guid not in seen]
        return f"it does not see {', '.join(missing)}" if missing else ""

    async def export_all(self, *, force: bool) -> str:
        """Export what is here, side by side, and prove that nothing is left. Raises PortFailed, CallFailed."""
        if self._store is None:
            return ""
        here = await self._store.look()
        done, not_done = await _all(here, [self._store.export_pool(pool.name, force=force) for pool in here])
        left = await self._store.look()
        if left:
            still_there = f"{', '.join(pool.name for pool in left)}: exported, and still there"
            raise CallFailed(errno.EBUSY, "; ".join(not_done) or still_there)
        return ", ".join(done)


async def _all(pools: Sequence[Named], deeds: Sequence[Awaitable[None]]) -> tuple[list[str], list[str]]:
    """Carry out one deed for each pool; the names of those that went well, and why the others did not."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    took: dict[str, float] = {}

    async def timed(pool: Named, deed: Awaitable[None]) -> None:
        await deed
        took[pool.name] = loop.time() - began_at

    outcomes = await asyncio.gather(*map(timed, pools, deeds), return_exceptions=True)
    failed = []
    for pool, outcome in zip(pools, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            if not isinstance(outcome, MiddlewareError):
                raise outcome
            failed.append(f"{pool.name}: {outcome.reason if isinstance(outcome, PortFailed) else outcome}")
    return [f"{name} {took_s * 1000:.0f} ms" for name, took_s in took.items()], failed
