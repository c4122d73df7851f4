"""A subscriber at the virtual IP hears every committed change once, whichever controller dies meanwhile. Needs root."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from middlewared.client import Client
from middlewared.kernel.errors import OutcomeUnknown
from middlewared.lab.driver import Pair
from tests.integration.conftest import records

pytestmark = pytest.mark.root

WRITES = 60
WITHIN_S = 20.0


class Subscriber:
    """Follows the configuration at the virtual IP. heard: (seq, term) of each change."""

    def __init__(self, pair: Pair) -> None:
        self._up = pair.result
        self.heard: list[tuple[int, int]] = []

    def client(self) -> Client:
        return Client(self._up.vip_url, username=self._up.user, password=self._up.password, patience_s=WITHIN_S)

    async def listen(self, since: int) -> None:
        async with self.client() as client:
            async for change in await client.subscribe("network.configuration", since=since, timeout_s=WITHIN_S):
                self.heard.append((int(str(change["seq"])), int(str(change["term"]))))

    async def write(self, first: int, last: int) -> None:
        async with self.client() as client:
            for number in range(first, last):
                with suppress(OutcomeUnknown):
                    fields = {"domain": f"told{number}.test"}
                    await client.request("network.configuration.update", [fields], timeout_s=WITHIN_S)


def test_a_subscriber_hears_every_committed_change_once_and_in_order_while_the_active_loses_power(pair: Pair) -> None:
    subscriber = Subscriber(pair)
    since = records(pair, "A")[-1].seq

    async def run() -> list[tuple[int, int]]:
        listening = asyncio.create_task(subscriber.listen(since))
        await subscriber.write(0, WRITES // 2)
        writing = asyncio.create_task(subscriber.write(WRITES // 2, WRITES))
        await asyncio.to_thread(pair.power_off, "A")
        await writing
        log = [record for record in records(pair, "B") if record.seq > since]
        committed = [(r.seq, r.term) for r in log if r.kind == "network.configuration.updated"]
        async with asyncio.timeout(WITHIN_S):
            while subscriber.heard[-1:] != committed[-1:] and not listening.done():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        if listening.done():
            listening.result()
        listening.cancel()
        return committed

    committed = asyncio.run(run())
    assert subscriber.heard == committed
    assert len(committed) >= WRITES - 1
    assert len({term for _, term in committed}) == 2
    pair.power_on("A")
    pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), within_s=8)


def test_s14_who_listens_hears_the_reasons_come_and_go_while_the_other_controller_boots(pair: Pair) -> None:
    subscriber = Subscriber(pair)

    async def run() -> list[list[str]]:
        heard: list[list[str]] = []
        async with subscriber.client() as client:
            changes = await client.subscribe("failover.disabled.reasons", timeout_s=WITHIN_S)
            await asyncio.to_thread(pair.power_off, "B")
            booting: asyncio.Task[None] | None = None
            async with asyncio.timeout(2 * WITHIN_S):
                async for change in changes:
                    heard.append(list(change["fields"]["disabled_reasons"]))
                    if booting is None and heard[-1]:
                        booting = asyncio.create_task(asyncio.to_thread(pair.power_on, "B"))
                    elif booting is not None and not heard[-1]:
                        await booting
                        return heard
        return heard

    heard = asyncio.run(run())
    assert heard[-1] == []
    assert len(heard) > 1
