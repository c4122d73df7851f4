"""Clients that write all the time, each value until it is accepted, and note what they met."""

from __future__ import annotations

import asyncio
import threading
import time

from middlewared.client import Client
from middlewared.kernel.errors import MiddlewareError
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from tests.campaign.history import Level, Write

WRITERS = 4
PAUSE_S = 0.01
TRY_S = 5.0
GIVE_UP_S = 60.0


class Writers:
    """A thread with a loop of its own: the driver blocks its caller."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._writes: list[Write] = []
        self._tries = 0
        self._told = 0
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="writers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Write]:
        """Returns everything that was written, once every writer has its last answer."""
        self._over = True
        self._thread.join(2 * GIVE_UP_S)
        return list(self._writes)

    def since_last(self) -> str:
        """What happened to the writes since this was asked the last time."""
        writes, self._told = self._writes[self._told :], len(self._writes)
        return _summary(writes)

    def totals(self) -> str:
        return f"{_summary(self._writes)}, {self._tries - len(self._writes)} tries were repeated"

    async def _run(self) -> None:
        await asyncio.gather(*(self._write_on(number) for number in range(WRITERS)))

    async def _write_on(self, number: int) -> None:
        result = self._pair.result
        urls = [result.vip_url, *(result.nodes[node]["url"] for node in NODES)]
        async with Client(
            *urls, username=result.user, password=result.password, durability=True, patience_s=TRY_S
        ) as client:
            count = 0
            while not self._over:
                self._writes.append(await self._until_accepted(client, number, f"w{number}-{count}.test"))
                count += 1
                await asyncio.sleep(PAUSE_S)

    async def _until_accepted(self, client: Client, number: int, value: str) -> Write:
        """A value that was sent more than once may stand in the log twice: its seq is then not compared."""
        sent = time.monotonic()
        said = ""
        tries = 0
        while time.monotonic() - sent < GIVE_UP_S:
            tries += 1
            self._tries += 1
            try:
                reply = await client.request("network.configuration.update", [{"domain": value}], timeout_s=TRY_S)
            except MiddlewareError as e:
                said = str(e)
                await asyncio.sleep(PAUSE_S)
                continue
            level: Level = "pair" if reply.meta is not None and reply.meta.durability == "pair" else "single"
            seq = reply.meta.seq if reply.meta is not None and tries == 1 else 0
            return Write(
                client=number, value=value, level=level, sent=sent, answered=time.monotonic(), seq=seq, said=said
            )
        return Write(client=number, value=value, level="unknown", sent=sent, answered=time.monotonic(), said=said)


def _summary(writes: list[Write]) -> str:
    accepted = [write for write in writes if write.level in ("pair", "single")]
    pair = sum(write.level == "pair" for write in accepted)
    longest_s = max((write.answered - write.sent for write in writes), default=0.0)
    return f"{len(accepted)} of {len(writes)} writes accepted ({pair} at pair), the longest after {longest_s:.2f} s"
