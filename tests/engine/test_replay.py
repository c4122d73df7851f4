from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from middlewared.engine.bus import Bus
from middlewared.engine.standin import MemoryLog
from middlewared.kernel.errors import PortFailed, Refused
from middlewared.kernel.event import Headline
from middlewared.protocol.session import Session
from middlewared.protocol.subscription import SPAN

WITHIN_S = 5.0


class World:
    """A bus over a log in memory, and one client, which reads when it is told to."""

    def __init__(self) -> None:
        self.log = MemoryLog({"user.changed": "user", "pool.changed": "pool"})
        self.bus = Bus(self.log)
        ids = count()
        self.client = Session(id="s", origin="o", local_root=True, new_id=lambda: f"id{next(ids)}")
        self.bus.attach(self.client, lambda: None)

    def commit(self, noun: str = "user", n: int = 1) -> None:
        for _ in range(n):
            at = self.log.append(f"{noun}.changed", 1 + len(self.log.lines) // 1000)
            self.bus.committed(noun, f"{noun}.changed", at)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(self.client.take())["params"] for _ in range(len(self.client.outbox))]

    async def read_until(self, seq: int) -> list[int]:
        """What is told, up to the change `seq`."""
        got: list[int] = []

        def there() -> bool:
            got.extend(notice["seq"] for notice in self.read())
            return bool(got) and got[-1] >= seq

        await until(there)
        return got


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0)


async def test_a_long_log_is_replayed_while_it_grows_and_goes_on_live() -> None:
    world = World()
    world.commit(n=20_000)
    await world.bus.subscribe(world.client, "user", addressed=True, since=10)
    got: list[int] = []
    while not got or got[-1] < 20_500:
        if len(world.log.lines) < 20_500:
            world.commit(n=5)
        assert len(world.client.outbox) <= 2 * SPAN
        got += [p["seq"] for p in world.read()]
        await asyncio.sleep(0)
    assert got == list(range(11, 20_501))
    world.commit()
    assert [p["seq"] for p in world.read()] == [20_501]


async def test_a_client_that_does_not_read_makes_no_more_wait_for_it_than_two_spans() -> None:
    world = World()
    world.commit(n=5000)
    await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(world.client.outbox) == 2 * SPAN
    assert await world.read_until(5000) == list(range(1, 5001))


async def test_several_replays_of_one_connection_all_come_to_the_present() -> None:
    world = World()
    world.commit("user", 600)
    world.commit("pool", 600)
    made = [
        await world.bus.subscribe(world.client, name, addressed=True, since=since)
        for name, since in (("user", 0), ("pool", 900), ("*", 1100))
    ]
    got: list[dict[str, Any]] = []
    while any(subscription.replaying for subscription in made):
        got += world.read()
        await asyncio.sleep(0)
    got += world.read()
    by_id = {s.id: [p["seq"] for p in got if p["subscription"] == s.id] for s in made}
    assert list(by_id.values()) == [list(range(1, 601)), list(range(901, 1201)), list(range(1101, 1201))]


async def test_only_the_collection_that_was_asked_for_is_replayed_however_rare_it_is() -> None:
    world = World()
    for _ in range(3):
        world.commit("pool", 7000)
        world.commit("user", 300)
    await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    assert await world.read_until(21900) == [seq for first in (7001, 14301, 21601) for seq in range(first, first + 300)]


async def test_a_subscription_without_since_begins_at_the_present() -> None:
    world = World()
    world.commit(n=3)
    made = await world.bus.subscribe(world.client, "user", addressed=True)
    assert (made.at.seq, made.replaying) == (3, False)


@pytest.mark.parametrize(("since", "why"), [(-1, "must not be negative"), (4, "is beyond 3, the last")])
async def test_a_record_that_is_not_there_is_refused_by_name(since: int, why: str) -> None:
    world = World()
    world.commit(n=3)
    with pytest.raises(Refused, match=rf"options\.since: {why}"):
        await world.bus.subscribe(world.client, "user", addressed=True, since=since)


async def test_what_is_not_in_the_log_cannot_be_resumed_and_says_so() -> None:
    world = World()
    with pytest.raises(Refused, match=r"failover\.status does not come from the log"):
        await world.bus.subscribe(world.client, "failover.status", addressed=True, since=0)


async def test_a_record_of_another_term_than_the_client_saw_is_refused() -> None:
    world = World()
    world.commit(n=3)
    assert (await world.bus.subscribe(world.client, "user", addressed=True, since=2, term=1)).at == (2, 1)
    assert (await world.bus.subscribe(world.client, "user", addressed=True, since=0, term=0)).at == (0, 0)
    with pytest.raises(Refused, match=r"options\.term: record 2 is of term 1 here"):
        await world.bus.subscribe(world.client, "user", addressed=True, since=2, term=4)


async def test_records_that_were_applied_without_a_word_are_replayed_or_their_beginning_is_told() -> None:
    world = World()
    world.commit(n=3)
    world.bus.applied(1, 3)
    live = await world.bus.subscribe(world.client, "user", addressed=True)
    await world.bus.subscribe(world.client, "user", addressed=False)
    for _ in range(4):
        world.log.append("user.changed")  # A state was taken over: nobody was told of these.
    world.bus.applied(8, 8)
    world.commit()
    assert live.replaying
    got: list[dict[str, Any]] = []
    while live.replaying:
        await asyncio.sleep(0)
        got += world.read()
    got += world.read()
    assert [p["seq"] for p in got if p.get("subscription") == live.id] == [4, 5, 6, 7, 8]
    [told] = [p["error"]["extra"] for p in got if "error" in p]
    assert told == {"resume": True, "since": 3, "term": 1}


async def test_a_cut_ends_every_subscription_to_the_log_and_a_span_that_was_being_read() -> None:
    world = World()
    world.commit(n=1000)
    await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    await asyncio.sleep(0)
    del world.log.lines[500:]
    world.bus.cut(500)
    await until(lambda: world.client.to_replay() is None)
    last = world.read()[-1]
    assert (last["error"]["errname"], last["error"]["extra"]["cut_after"]) == ("ESTALE", 500)
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.read() == []


async def test_a_log_that_cannot_be_read_ends_the_subscription_with_the_reason() -> None:
    world = World()
    world.commit(n=3)

    async def broken(after: int, upto: int) -> list[Headline]:
        raise PortFailed("read the log", "Input/output error")

    subscribed = await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    world.log.headlines = broken  # type: ignore[method-assign]
    await until(lambda: not world.client.hears("user"))
    [told] = world.read()
    assert (told["subscription"], told["error"]["errname"]) == (subscribed.id, "EIO")


async def test_who_leaves_in_the_middle_of_a_replay_leaves_no_task_behind() -> None:
    world = World()
    world.commit(n=5000)
    before = asyncio.all_tasks()
    await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    for _ in range(200):
        await asyncio.sleep(0)
    world.bus.detach(world.client)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_client_that_waits_for_room_and_logs_out_is_replayed_nothing_more() -> None:
    world = World()
    world.commit(n=5000)
    await world.bus.subscribe(world.client, "user", addressed=True, since=0)
    await until(lambda: not world.client.has_room())
    world.client.log_out()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not world.client.outbox
