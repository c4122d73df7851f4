"""Two controllers' ends of an interlink on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from middlewared.config import Interlink

WITHIN_S = 5.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.002)


def free_port() -> int:
    """One that was free a moment ago, as was the one above it, which is the pairing's."""
    for _ in range(100):
        with socket.socket() as above, socket.socket() as probe, suppress(OSError):
            above.bind(("127.0.0.1", 0))
            port = int(above.getsockname()[1]) - 1
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no two free ports beside each other")


def interlinks() -> tuple[Interlink, Interlink]:
    """A's and B's view of it."""
    port = free_port()
    a = Interlink(interface="lo", address="127.0.0.1", peer="127.0.0.2", port=port)
    return a, Interlink(interface="lo", address="127.0.0.2", peer="127.0.0.1", port=port)
