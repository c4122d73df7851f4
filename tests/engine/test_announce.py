from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count

import msgspec
import pytest

from middlewared.engine.announce import Announcer
from middlewared.engine.bus import Bus
from middlewared.engine.standin import MemoryLog
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.plugin import Announcement
from middlewared.protocol.session import Session
from tests.engine.controllers import until


class Guest(msgspec.Struct, frozen=True):
    id: str
    mood: str


class World:
    """Announced queries, whose answers the test gives, and a client that hears them all."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {"door": "shut", "window": ["dust"], "guests": []}
        self.answers |= {"host": Guest("eva", "glad"), "bell": "hangs"}
        self.asked = 0
        ids = count()
        self.session = Session(id="s", origin="", local_root=True, new_id=lambda: str(next(ids)))
        self.bus = Bus(MemoryLog({}))
        self.bus.attach(self.session, lambda: None)
        self.announcer = Announcer(
            [
                Announcement(collection="house.door", query="door", field="state"),
                Announcement(collection="house.window", query="window", field="spots"),
                Announcement(collection="house.guests", query="guests"),
                Announcement(collection="house.host", query="host", field="host", ignores=("mood",)),
                Announcement(collection="house.bell", query="bell", field="bell", pause_s=3600.0),
            ],
            self.ask,
            self.bus,
        )
        for name in ("house.door", "house.window", "house.guests", "house.host", "house.bell"):
            self.session.subscribe(name)

    async def ask(self, query: str) -> object:
        self.asked += 1
        answer = self.answers[query]
        if isinstance(answer, MiddlewareError):
            raise answer
        return answer

    async def turn(self) -> None:
        """A whole round of questions."""
        asked = self.asked
        self.announcer.look()
        await until(lambda: self.asked >= asked + 4)
        await asyncio.sleep(0)

    def told(self) -> list[tuple[str, object]]:
        params = [json.loads(frame)["params"] for frame in self.session.outbox]
        return [(p["collection"], p["fields"]) for p in params]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    task = asyncio.create_task(made.announcer.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_is_so_at_the_start_is_not_told(world: World) -> None:
    await world.turn()
    assert world.told() == []


async def test_a_changed_answer_is_told_once_to_the_subscribers_of_its_collection(world: World) -> None:
    await world.turn()
    world.answers["door"] = "open"
    await world.turn()
    await world.turn()
    assert world.told() == [("house.door", {"state": "open"})]


async def test_a_change_that_nobody_announced_is_found_by_asking_again(world: World) -> None:
    await world.turn()
    world.answers["window"] = []
    await until(lambda: world.told() == [("house.window", {"spots": []})])


async def test_a_query_that_fails_is_passed_over_and_its_change_is_told_when_it_answers_again(world: World) -> None:
    await world.turn()
    world.answers["door"] = CallFailed(5, "not now")
    await world.turn()
    assert world.told() == []
    world.answers["door"], world.answers["window"] = "open", ["dust", "rain"]
    await world.turn()
    assert world.told() == [("house.door", {"state": "open"}), ("house.window", {"spots": ["dust", "rain"]})]


async def test_a_field_that_is_ignored_is_told_only_with_another_one(world: World) -> None:
    await world.turn()
    world.answers["host"] = Guest("eva", "sad")
    await world.turn()
    assert world.told() == []
    world.answers["host"] = Guest("fay", "sad")
    await world.turn()
    assert world.told() == [("house.host", {"host": {"id": "fay", "mood": "sad"}})]


async def test_a_query_with_a_pause_is_not_asked_oftener(world: World) -> None:
    await world.turn()
    world.answers["bell"] = "rings"
    await world.turn()
    await world.turn()
    assert world.told() == []


async def test_of_a_list_of_things_what_came_what_changed_and_what_went_is_told(world: World) -> None:
    await world.turn()
    world.answers["guests"] = [Guest("ada", "glad"), Guest("bob", "glad")]
    await world.turn()
    world.answers["guests"] = [Guest("bob", "sad"), Guest("cleo", "glad")]
    await world.turn()
    params = [json.loads(frame)["params"] for frame in world.session.outbox]
    assert sorted((p["msg"], p["id"], p.get("fields", {}).get("mood")) for p in params) == [
        ("added", "ada", "glad"),
        ("added", "bob", "glad"),
        ("added", "cleo", "glad"),
        ("changed", "bob", "sad"),
        ("removed", "ada", None),
    ]
