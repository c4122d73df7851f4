"""The management controllers of the lab: each controller has a cable to the power of the other.

The cable is a unix socket, DIR/bmc/X/power, which X sees as /run/bmc/power and which speaks protocol/bmc.py. An order
is answered when it is in force: the machine is dead, with all that ran in it. As a management controller does on
"reset", the bench gives it power again after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node, other
from middlewared.lab.faults import NODES
from middlewared.lab.layout import Layout
from middlewared.protocol import bmc

SOCKET = "power"


class Mains(Protocol):
    """Who can switch the machines: the bench."""

    powered: set[str]

    async def reset(self, node: Node) -> None:
        """Power off, and on again later; returns when it is off. Raises PortFailed."""
        ...


class Bmcs:
    def __init__(self, layout: Layout, mains: Mains) -> None:
        self._layout = layout
        self._mains = mains
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Raises OSError."""
        for node in NODES:
            path = self._layout.bmc(node) / SOCKET
            path.unlink(missing_ok=True)
            self._servers.append(await asyncio.start_unix_server(_Cable(self._mains, other(node)).serve, path))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []


class _Cable:
    """One controller's cable to the power of `node`."""

    def __init__(self, mains: Mains, node: Node) -> None:
        self._mains = mains
        self._node = node

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(bmc.encode(await self._obey(line)))
                await writer.drain()
        writer.close()

    async def _obey(self, line: bytes) -> bmc.Said:
        try:
            if bmc.decode_ask(line).verb == "power_off":
                await self._mains.reset(self._node)
                return bmc.Said(on=False)
        except (msgspec.DecodeError, PortFailed) as e:
            return bmc.Said(error=str(e))
        return bmc.Said(on=self._node in self._mains.powered)
