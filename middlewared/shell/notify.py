"""Tells the controller's init that the daemon is ready and alive: sd_notify(3), by a datagram to NOTIFY_SOCKET.

Where init asks for a watchdog (WATCHDOG_USEC), a sign of life is due each half of it. It is sent from the event loop,
so a loop that stands still is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


class Init:
    """The one line to init; without NOTIFY_SOCKET nothing is sent."""

    def __init__(self) -> None:
        self._path = os.environ.get("NOTIFY_SOCKET", "")
        self._interval_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000 / 2

    def say(self, text: str) -> None:
        """Send one state, as `READY=1`."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(text.encode(), address)

    async def keep_alive(self) -> None:
        """Until cancelled; returns at once where init does not ask for it."""
        while self._interval_s:
            self.say("WATCHDOG=1")
            await asyncio.sleep(self._interval_s)
