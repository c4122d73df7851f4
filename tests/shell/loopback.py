"""Two controllers' ends of an interlink on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from middlewared.config import Interlink

WITHIN_S = 5.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.002)


def free_port() -> int:
    """One that was free a moment ago, below the one of the pairing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) - 1


def interlinks() -> tuple[Interlink, Interlink]:
    """A's and B's view of it."""
    port = free_port()
    a = Interlink(interface="lo", address="127.0.0.1", peer="127.0.0.2", port=port)
    return a, Interlink(interface="lo", address="127.0.0.2", peer="127.0.0.1", port=port)
