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
from middlewared.kernel.pools import Health
from middlewared.ports import Disks, PoolStore

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
WRITABLE = ("ONLINE", "DEGRADED")


class PoolWatch:
    """tell: is told why a pool cannot be written, None while all can.

    serials: of the disks that answer; None: not looked yet. fault: as told last. degraded: pool -> what ZFS says of it,
    for those that can be written and are not as they should be.
    """

    def __init__(self, pools: PoolStore | None, disks: Disks, tell: Callable[[str | None], None]) -> None:
        self._pools = pools
        self._disks = disks
        self._tell = tell
        self.serials: tuple[str, ...] | None = None
        self.fault: str | None = None
        self.degraded: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        self.serials = tuple(sorted(disk.serial for disk in await self._disks.list() if disk.serial))
        try:
            states = await self._states()
        except PortFailed as e:
            log.warning("event=pools_unknown why=%r", str(e))
            return
        self.degraded = {health.name: health.detail or health.status for health in states if _limps(health)}
        fault = ", ".join(f"{health.name} is {health.status}" for health in states if not _goes(health)) or None
        if fault != self.fault:
            log.warning("event=pool_fault why=%r", fault)
            self.fault = fault
            self._tell(fault)

    async def _states(self) -> list[Health]:
        if self._pools is None:
            return []
        return [await self._pools.health(pool.name) for pool in await self._pools.imported()]


def _goes(health: Health) -> bool:
    return health.status in WRITABLE


def _limps(health: Health) -> bool:
    return _goes(health) and not (health.healthy and health.mounted)
