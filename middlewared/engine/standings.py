"""What fenced last said of this controller, for whoever waits until it says something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from middlewared.protocol import hub

T = TypeVar("T")

LOOK_S = 0.01
"""How often a condition is looked at again that not only fenced can make true."""


class Standings:
    """now: as said last, None while fenced is not heard."""

    def __init__(self) -> None:
        self.now: hub.Standing | None = None
        self.news = asyncio.Event()
        """Set at every word; whoever clears it waits alone."""

    def heard(self, standing: hub.Standing | None) -> None:
        self.now = standing
        self.news.set()

    async def until(self, holds: Callable[[hub.Standing], bool]) -> hub.Standing:
        """Wait, without a bound of its own: every step that waits has a limit."""
        return await come_true(lambda: self.now if self.now is not None and holds(self.now) else None)


async def come_true(look: Callable[[], T | None]) -> T:
    """Look again and again until there is something to see."""
    while True:
        seen = look()
        if seen is not None:
            return seen
        await asyncio.sleep(LOOK_S)


def owns(standing: hub.Standing) -> bool:
    """Whether this controller may have pools: as the owner of the term, or because there is no other one."""
    return standing.role in ("OWNER", "SINGLE")
