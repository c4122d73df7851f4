"""Tells subscribers when the answer of a query changed.

The answers depend on many things (roles, links, disks, the configuration), none of which announces all of its changes.
So each query is asked anew every INTERVAL_S, and at once after a change that is known; only what differs is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from middlewared.engine.bus import Bus
from middlewared.kernel.errors import MiddlewareError
from middlewared.plugin import Announcement, Row

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
        self._wakes = [asyncio.Event() for _ in self._announcements]

    def look(self) -> None:
        """Something changed that may matter."""
        for wake in self._wakes:
            wake.set()

    async def run(self) -> None:
        """Until cancelled. A query that takes long holds up no other."""
        async with asyncio.TaskGroup() as group:
            for announcement, wake in zip(self._announcements, self._wakes, strict=True):
                group.create_task(self._keep(announcement, wake))

    async def _keep(self, announcement: Announcement, wake: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await wake.wait()
            wake.clear()
            await self._compare(announcement)
            await asyncio.sleep(announcement.pause_s)

    async def _compare(self, announcement: Announcement) -> None:
        try:
            answer = await self._ask(announcement.query)
        except MiddlewareError as e:
            log.warning("event=not_announced collection=%s why=%r", announcement.collection, str(e))
            return
        known = announcement.collection in self._last
        before = self._last.get(announcement.collection)
        if known and (before == answer or _same(announcement.ignores, before, answer)):
            return
        self._last[announcement.collection] = answer
        if known and announcement.field:
            self._bus.publish(announcement.collection, fields={announcement.field: answer})
        elif known:
            self._tell_rows(announcement.collection, _by_id(before), _by_id(answer))

    def _tell_rows(self, collection: str, before: dict[object, Row], after: dict[object, Row]) -> None:
        for id_ in before.keys() - after.keys():
            self._bus.publish(collection, msg="removed", id=id_)
        for id_, row in after.items():
            if id_ not in before:
                self._bus.publish(collection, msg="added", id=id_, fields=row)
            elif before[id_] != row:
                self._bus.publish(collection, msg="changed", id=id_, fields=row)


def _same(ignores: tuple[str, ...], before: object, answer: object) -> bool:
    """Whether two Structs differ in nothing but fields that are ignored."""
    if not ignores or not isinstance(before, msgspec.Struct) or not isinstance(answer, msgspec.Struct):
        return False
    return before == msgspec.structs.replace(answer, **{name: getattr(before, name) for name in ignores})


def _by_id(answer: object) -> dict[object, Row]:
    rows: list[Row] = msgspec.to_builtins(answer)
    return {row["id"]: row for row in rows}
