"""Changes that a client hears, and follows from one controller to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable

import pytest

from middlewared.client import Client, SyncClient
from middlewared.kernel.errors import (
    CallFailed,
    PortFailed,
    Refused,
)
from middlewared.subscriptions import Subscription
from tests.client.conftest import Node, commit, far


async def test_changes_are_heard_in_order_until_the_end(a: Node) -> None:
    async with Client(a.unix) as client:
        subscription = await client.subscribe("user")
        for seq in range(3):
            a.bus.publish("user", id=seq)
        a.bus.end("user")
        assert [notice["id"] async for notice in subscription] == [0, 1, 2]


async def test_a_lost_connection_ends_a_subscription_with_the_reason(a: Node) -> None:
    async with Client(a.unix) as client:
        subscription = await client.subscribe("*")
        await a.die()
        with pytest.raises(PortFailed, match="1001"):
            async for _ in subscription:
                pass


async def test_a_reader_that_falls_behind_is_told_so() -> None:
    subscription = Subscription("user")
    for seq in range(2000):
        subscription.put({"seq": seq})
    notices = aiter(subscription)
    assert [(await anext(notices))["seq"] for _ in range(1000)] == list(range(1000))
    with pytest.raises(CallFailed, match="were not read"):
        await anext(notices)


class Told:
    """What a follower was given, in a task of its own. failed: why it ended."""

    def __init__(self, following: AsyncIterable[dict[str, object]]) -> None:
        self.notices: list[dict[str, object]] = []
        self._following = following
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for notice in self._following:
            self.notices.append(notice)

    def seqs(self) -> list[object]:
        return [notice["seq"] for notice in self.notices if "term" in notice]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.005)


async def test_a_follower_hears_the_past_and_then_the_present(a: Node) -> None:
    commit(a, n=2500)
    async with Client(a.unix) as client:
        told = Told(await client.subscribe("user", since=10))
        await told.until(lambda: len(told.notices) == 2491)
        commit(a)
        await told.until(lambda: len(told.notices) == 2492)
        assert told.seqs() == list(range(11, 2503))
        told.task.cancel()


async def test_a_follower_goes_on_at_the_other_controller_after_the_last_record_that_it_was_given(
    a: Node, b: Node
) -> None:
    commit(a, b, n=5)
    async with far(a, b) as client:
        told = Told(await client.follow("user", since=0))
        await told.until(lambda: len(told.notices) == 6)
        commit(a, b)
        await a.die()
        commit(b, n=20, term=2)
        await told.until(lambda: len(told.notices) == 27)
        assert told.seqs() == list(range(1, 28))
        assert client.uri == b.url
        told.task.cancel()


async def test_a_follower_without_a_beginning_misses_nothing_after_it_subscribed(a: Node, b: Node) -> None:
    async with far(a, b) as client:
        told = Told(await client.follow("user"))
        await a.die()
        commit(a, b, n=3)
        await told.until(lambda: told.seqs() == [2, 3, 4])
        told.task.cancel()


async def test_a_follower_waits_for_a_controller_that_does_not_have_its_record_yet(a: Node, b: Node) -> None:
    commit(a, n=5)
    async with far(a, b) as client:
        told = Told(await client.follow("user", since=0))
        await told.until(lambda: len(told.notices) == 6)
        await a.die()
        asyncio.get_running_loop().call_later(0.3, lambda: commit(b, n=6))
        await told.until(lambda: told.seqs() == [1, 2, 3, 4, 5, 6, 7])
        told.task.cancel()


async def test_a_follower_of_records_that_were_cut_is_told_so(a: Node, b: Node) -> None:
    commit(a, n=5, term=1)
    commit(b, n=8, term=2)
    async with far(a, b) as client:
        told = Told(await client.follow("user", since=0))
        await told.until(lambda: len(told.notices) == 6)
        await a.die()
        with pytest.raises(Refused, match="what this client saw there is not in this log"):
            await asyncio.wait_for(told.task, 10)


async def test_a_reader_that_is_slower_than_the_log_is_resumed_and_skips_nothing(a: Node) -> None:
    commit(a, n=3500)
    async with Client(a.unix) as client:
        got = []
        async for notice in await client.subscribe("user", since=0):
            got.append(notice["seq"])
            if len(got) % 700 == 0:
                await asyncio.sleep(0.05)
            if len(got) == 3501:
                break
        assert got == list(range(1, 3502))


async def test_a_follower_of_an_answer_asks_for_it_anew_when_it_resumes(a: Node, b: Node) -> None:
    async with far(a, b) as client:
        told = Told(await client.follow("test.announced"))
        a.bus.publish("test.announced", fields={"text": "first"})
        await told.until(lambda: len(told.notices) == 1)
        await a.die()
        await told.until(lambda: len(told.notices) == 2)
        assert [notice["fields"] for notice in told.notices] == [{"text": "first"}, {"text": "b"}]
        b.bus.publish("test.announced", fields={"text": "later"})
        await told.until(lambda: len(told.notices) == 3)
        told.task.cancel()


async def test_two_followers_on_one_connection_get_each_its_own(a: Node) -> None:
    commit(a, n=300)
    async with Client(a.unix) as client:
        all_, late = Told(await client.follow("*", since=0)), Told(await client.follow("user", since=250))
        await all_.until(lambda: len(all_.notices) == 301 and len(late.notices) == 51)
        commit(a)
        await all_.until(lambda: len(all_.notices) == 302 and len(late.notices) == 52)
        assert (all_.seqs(), late.seqs()) == (list(range(1, 303)), list(range(251, 303)))
        all_.task.cancel()
        late.task.cancel()


async def test_a_follower_gives_up_when_no_controller_comes_back(a: Node) -> None:
    async with Client(a.unix) as client:
        told = Told(await client.follow("user", patience_s=0.1))
        await a.die()
        with pytest.raises(PortFailed):
            await asyncio.wait_for(told.task, 10)


async def test_code_without_an_event_loop_hears_of_changes_too(a: Node) -> None:
    commit(a, n=3)

    def work() -> list[object]:
        with SyncClient(a.unix) as client:
            notices = client.subscribe("user", since=1)
            return [next(notices)["seq"] for _ in range(3)]

    assert await asyncio.to_thread(work) == [2, 3, 4]
