"""Looks every INTERVAL_S what this controller sees of the shared disks, and whether its pools can be written.

A pool whose disks refuse stops, and ZFS tells nobody. fenced is told, since an owner whose pools have stopped is no use
to anybody while the other controller may do better; it is shown as a reason and as an alert.

Where ZFS does not answer nothing new is known, and what was told stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from middlewared.kernel.errors import PortFailed
from middlewared.ports import Disks, PoolStore

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
WRITABLE = ("ONLINE", "DEGRADED")


class PoolWatch:
    """tell: is told why a pool cannot be written, None while all can.

    serials: of the disks that answer; None: not looked yet. fault: as told last.
    """

    def __init__(self, pools: PoolStore | None, disks: Disks, tell: Callable[[str | None], None]) -> None:
        self._pools = pools
        self._disks = disks
        self._tell = tell
        self.serials: tuple[str, ...] | None = None
        self.fault: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        self.serials = tuple(sorted(disk.serial for disk in await self._disks.list() if disk.serial))
        try:
            fault = await self._fault()
        except PortFailed as e:
            log.warning("event=pools_unknown why=%r", str(e))
            return
        if fault != self.fault:
            log.warning("event=pool_fault why=%r", fault)
            self.fault = fault
            self._tell(fault)

    async def _fault(self) -> str | None:
        if self._pools is None:
            return None
        states = [await self._pools.health(pool.name) for pool in await self._pools.imported()]
        stopped = [f"{health.name} is {health.status}" for health in states if health.status not in WRITABLE]
        return ", ".join(stopped) or None
