"""Tells subscribers when the answer of a query changed.

The answers depend on many things (roles, links, disks, the configuration), none of which announces all of its changes.
So each query is asked anew every INTERVAL_S, and at once after a change that is known; only what differs is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from middlewared.engine.bus import Bus
from middlewared.kernel.errors import MiddlewareError
from middlewared.plugin import Announcement

log = logging.getLogger(__name__)

INTERVAL_S = 0.25


class Announcer:
    """Asks and compares."""

    def __init__(
        self, announcements: Iterable[Announcement], ask: Callable[[str], Awaitable[object]], bus: Bus
    ) -> None:
        self._announcements = tuple(announcements)
        self._ask = ask
        self._bus = bus
        self._last: dict[str, object] = {}
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Something changed that may matter."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._wake.wait()
            self._wake.clear()
            for announcement in self._announcements:
                await self._compare(announcement)

    async def _compare(self, announcement: Announcement) -> None:
        try:
            answer = await self._ask(announcement.query)
        except MiddlewareError as e:
            log.warning("event=not_announced collection=%s why=%r", announcement.collection, str(e))
            return
        known = announcement.collection in self._last
        if known and self._last[announcement.collection] == answer:
            return
        self._last[announcement.collection] = answer
        if known:
            self._bus.publish(announcement.collection, fields={announcement.field: answer})
