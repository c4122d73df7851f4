"""The shelf's process, as the bench keeps it: started, started again when it dies, told which cables are cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import IO

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.faults import Way
from middlewared.lab.layout import Layout
from middlewared.lab.machine import last_line

START_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 5.0
RESTART_S = 0.1
_POLL_S = 0.02


class Shelf:
    """argv: its command line; () for a lab without one."""

    def __init__(self, layout: Layout, argv: Sequence[str]) -> None:
        self._layout = layout
        self._argv = argv
        self._ports: tuple[str, ...] = ()
        self._cuts: dict[Node, frozenset[Way]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, ports: Sequence[str]) -> None:
        """Returns when its control socket answers. ports: for its --port. Raises PortFailed with its own last words."""
        self._ports = tuple(f"--port={port}" for port in ports)
        if self._argv:
            await self._spawn()
            self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def cut(self, node: Node, ways: frozenset[Way]) -> None:
        """Let exactly these ways of the controller's cable be cut. Raises PortFailed when the shelf does not obey."""
        healed = self._cuts.get(node, frozenset()) - ways
        self._cuts[node] = ways
        if not self._argv:
            return
        orders: list[dict[str, str]] = [{"verb": "heal", "node": node}] if healed else []
        await self._order(orders + [{"verb": "cut", "node": node, "way": way} for way in sorted(ways)])

    async def _order(self, orders: list[dict[str, str]]) -> None:
        purpose = "tell the shelf which cables are cut"
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._layout.shelf_control)
                for order in orders:
                    writer.write(msgspec.json.encode(order) + b"\n")
                    answer: dict[str, object] = msgspec.json.decode(await reader.readline())
                    if not answer.get("ok"):
                        raise PortFailed(purpose, str(answer.get("error")))
                writer.close()
        except (OSError, TimeoutError, msgspec.DecodeError) as e:
            raise PortFailed(purpose, f"{e or 'no answer'}; {last_line(self._layout.shelf / 'shelf.log')}") from None

    async def _spawn(self) -> None:
        with (self._layout.shelf / "shelf.log").open("ab") as log:
            self._process = await self._launch(log)
        for _ in range(int(START_TIMEOUT_S / _POLL_S)):
            if self._process.returncode is not None:
                break
            with contextlib.suppress(PortFailed):
                await self._order([{"verb": "state"}])
                return
            await asyncio.sleep(_POLL_S)
        raise PortFailed("start the shelf", last_line(self._layout.shelf / "shelf.log"))

    async def _launch(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        # setpriv: the shelf must not outlive a bench that is killed.
        return await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *self._argv, *self._ports),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    async def _keep(self) -> None:
        while self._process is not None:
            await self._process.wait()
            await asyncio.sleep(RESTART_S)
            with contextlib.suppress(PortFailed):
                await self._spawn()
                for node, ways in self._cuts.items():
                    await self.cut(node, ways)
