from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import ClassVar

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.errors import CallFailed, ConfigBehind, MiddlewareError, NoRole, NotActive, Refused
from middlewared.kernel.event import Event
from middlewared.plugin import Call, Command, Noun, Plugin, command, local, query
from middlewared.protocol.session import CALLS_LIMIT, Session

UUID = "0d9b7a52-6a58-4a52-8e9a-b2d3f6d6f0aa"


class Count(msgspec.Struct, frozen=True):
    n: int


class Add(Command, frozen=True, kw_only=True):
    noun: ClassVar[str] = "counter"
    n: int


class Added(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "counter.added"
    n: int


def decide(state: Count, add: Add) -> list[Event]:
    if add.n < 0:
        raise Refused(("n", "is negative"))
    return [Added(n=add.n)]


COUNTER = Noun(
    name="counter",
    initial=Count(0),
    events=(Added,),
    decide=decide,
    evolve=lambda state, event: Count(state.n + event.n),
    table=Table("counter", MetaData(), Column("n", Integer)),
    project=lambda state: [{"n": state.n}],
    restore=lambda rows: Count(0),
)


@command("counter.add", roles=("COUNTER_WRITE",), takes="counter_add")
async def add(call: Call, data: Add) -> int:
    await call.execute(data)
    return call.state(COUNTER).n


@query("counter.get", roles=("COUNTER_READ",))
async def get(call: Call) -> int:
    return call.state(COUNTER).n


@query("counter.sneak")
async def sneak(call: Call) -> None:
    await call.execute(Add(n=1))


@command("counter.first")
async def first(call: Call, n: int) -> list[int]:
    if call.state(COUNTER).n:
        raise CallFailed(17, "it was counted already")
    before = call.state(COUNTER).n
    await call.execute(Add(n=n))
    return [before, call.state(COUNTER).n]


@command("counter.twice")
async def twice(call: Call) -> list[int]:
    found = []
    for n in (10, 20):
        await call.execute(Add(n=n))
        found.append(call.state(COUNTER).n)
    return found


@local("counter.root_only", local_only=True)
async def root_only(call: Call) -> str:
    return "root"


@local("counter.wait", public=True)
async def wait(call: Call) -> str:
    await asyncio.Event().wait()
    return "never"


@local("counter.pause", public=True)
async def pause(call: Call) -> str:
    async with asyncio.timeout(1):
        await asyncio.sleep(0)
        task = asyncio.current_task()
        await asyncio.sleep(0.001)
        return "same" if task is asyncio.current_task() else "other"


@local("counter.broken", public=True)
async def broken(call: Call) -> None:
    raise RuntimeError("a secret detail")


@local("counter.open", public=True)
async def open_(call: Call, a: int, b: str = "b") -> list[object]:
    return [a, b]


@query("other.relay")
async def relay(call: Call) -> object:
    return await call.query("counter.get")


@query("other.meddle")
async def meddle(call: Call) -> object:
    return await call.query("counter.sneak")


METHODS = (add, first, twice, get, sneak, root_only, wait, pause, broken, open_)
COUNTERS = Plugin(
    name="counter", nouns=(COUNTER,), methods=(add, first, twice, get, sneak, root_only, wait, pause, broken, open_)
)
OTHER = Plugin(name="other", methods=(relay, meddle), needs=("counter.get",))


def session(*roles: str, login: bool = True) -> Session:
    ids = count()
    made = Session(id="s", origin="10.0.0.9:5", local_root=False, new_id=lambda: str(next(ids)))
    if login:
        made.log_in("eva", frozenset(roles))
    return made


class World:
    """A dispatcher, and the short way to call it."""

    def __init__(self, deadline_s: float = 5.0) -> None:
        self.dispatcher: Dispatcher
        self.engine: MemoryEngine
        self.dispatcher, self.engine, _ = dispatcher(COUNTERS, OTHER, deadline_s=deadline_s)
        self.suspended = 0

    async def send(self, client: Session, text: str) -> object:
        answer = await self.dispatcher.answer(client, text, self._suspended)
        return None if answer is None else json.loads(answer)

    async def call(self, client: Session, method: str, *params: object, id: object = 1) -> dict[str, object]:  # noqa: A002
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
        answer = await self.send(client, text)
        assert isinstance(answer, dict)
        return answer

    def _suspended(self) -> None:
        self.suspended += 1


def data(answer: dict[str, object]) -> dict[str, object]:
    error = answer["error"]
    assert isinstance(error, dict)
    told: dict[str, object] = error["data"]
    return told


ADMIN: Callable[[], Session] = lambda: session("FULL_ADMIN")  # noqa: E731


async def test_a_write_is_executed_and_its_author_is_known() -> None:
    world = World()
    assert (await world.call(ADMIN(), "counter.add", {"n": 3}, id=UUID))["result"] == 3
    assert world.engine.executed == [(Add(n=3), "eva", "10.0.0.9:5", UUID)]


async def test_an_id_that_is_no_uuid_does_not_become_the_request_id() -> None:
    world = World()
    await world.call(ADMIN(), "counter.add", {"n": 3}, id="7")
    assert world.engine.executed[0][3] not in ("7", "")


async def test_meta_comes_with_a_write_when_it_was_asked_for_and_never_with_a_read() -> None:
    world, client = World(), ADMIN()
    assert "meta" not in await world.call(client, "counter.add", {"n": 1})
    client.options["durability"] = True
    assert (await world.call(client, "counter.add", {"n": 1}))["meta"] == {"seq": 2, "term": 1, "durability": "pair"}
    assert "meta" not in await world.call(client, "counter.get")


async def test_without_a_login_only_public_methods_answer() -> None:
    world, client = World(), session(login=False)
    assert data(await world.call(client, "counter.get"))["error"] == 207
    assert data(await world.call(client, "counter.add", "nonsense"))["error"] == 207
    assert (await world.call(client, "counter.open", 1))["result"] == [1, "b"]


async def test_a_login_without_the_role_is_not_enough() -> None:
    world = World()
    assert data(await world.call(session("COUNTER_READ"), "counter.add", {"n": 1}))["error"] == 13
    assert (await world.call(session("COUNTER_READ"), "counter.get"))["result"] == 0


async def test_what_is_for_the_unix_socket_is_refused_to_an_administrator_from_afar() -> None:
    world = World()
    assert data(await world.call(ADMIN(), "counter.root_only"))["error"] == 13
    root = Session(id="r", origin="unix:0", local_root=True, new_id=str)
    assert (await world.call(root, "counter.root_only"))["result"] == "root"


@pytest.mark.parametrize(
    ("refusal", "number"),
    [(NotActive("B", ["http://a"]), 30), (NoRole("starting"), 16), (ConfigBehind("seq 4 is missing"), 210)],
)
async def test_a_controller_that_may_not_write_refuses_writes_before_it_looks_at_them(
    refusal: MiddlewareError, number: int
) -> None:
    world = World()
    world.engine.refusal = refusal
    assert data(await world.call(ADMIN(), "counter.add", "nonsense"))["error"] == number
    assert (await world.call(ADMIN(), "counter.get"))["result"] == 0
    assert world.engine.executed == []


async def test_the_refusal_on_a_standby_names_the_controller_and_where_the_active_one_is() -> None:
    world = World()
    world.engine.refusal = NotActive("B", ["http://a"])
    told = data(await world.call(ADMIN(), "counter.add", {"n": 1}))
    assert told["extra"] == {"active_urls": ["http://a"], "node": "B"}


async def test_faults_of_the_input_and_of_the_decision_are_named_under_the_object_that_the_method_takes() -> None:
    world = World()
    assert data(await world.call(ADMIN(), "counter.add", {"n": "x", "m": 1}))["extra"] == [
        ["counter_add.m", "there is no such field", 22],
        ["counter_add.n", "must be a whole number, not a string", 22],
    ]
    assert data(await world.call(ADMIN(), "counter.add", {"n": -1}))["extra"] == [["counter_add.n", "is negative", 22]]


async def test_only_a_method_that_is_declared_as_a_write_may_write() -> None:
    world = World()
    assert data(await world.call(ADMIN(), "counter.sneak"))["error"] == 1
    assert world.engine.executed == []


async def test_a_plugin_queries_another_only_where_its_manifest_says_so() -> None:
    world = World()
    assert (await world.call(ADMIN(), "other.relay"))["result"] == 0
    assert "does not name it in its needs" in str(data(await world.call(ADMIN(), "other.meddle"))["reason"])


async def test_a_fault_of_the_program_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    answer = await World().call(ADMIN(), "counter.broken", id=UUID)
    assert answer["error"]["code"] == -32603  # type: ignore[index]
    assert UUID in json.dumps(answer)
    assert "secret" not in json.dumps(answer)
    assert "a secret detail" in caplog.text


# A write that comes again


async def test_a_write_that_comes_again_gets_the_first_answer_whatever_has_changed_since() -> None:
    world = World()
    assert (await world.call(ADMIN(), "counter.first", 3, id=UUID))["result"] == [0, 3]
    await world.call(ADMIN(), "counter.add", {"n": 4})
    assert (await world.call(ADMIN(), "counter.first", 3, id=UUID))["result"] == [0, 3]
    assert "already" in str(data(await world.call(ADMIN(), "counter.first", 3, id=UUID.replace("a", "b")))["reason"])
    assert world.engine.states["counter"] == Count(7)


async def test_its_meta_says_where_the_first_one_stands() -> None:
    world, client = World(), ADMIN()
    client.options["durability"] = True
    first = await world.call(client, "counter.add", {"n": 1}, id=UUID)
    await world.call(client, "counter.add", {"n": 1})
    assert (await world.call(client, "counter.add", {"n": 1}, id=UUID))["meta"] == first["meta"]


async def test_a_write_under_an_id_that_is_no_uuid_is_carried_out_each_time() -> None:
    world = World()
    for n in (1, 2):
        assert (await world.call(ADMIN(), "counter.add", {"n": 1}, id="1"))["result"] == n


async def test_each_command_of_a_handler_with_several_is_remembered_under_an_id_of_its_own() -> None:
    world = World()
    assert (await world.call(ADMIN(), "counter.twice", id=UUID))["result"] == [10, 30]
    assert [asked[3] for asked in world.engine.executed] == [UUID, f"{UUID}/2"]
    await world.call(ADMIN(), "counter.add", {"n": 5})
    assert (await world.call(ADMIN(), "counter.twice", id=UUID))["result"] == [10, 30]


async def test_a_call_that_does_not_wait_asks_for_no_other_reader() -> None:
    world = World()
    await world.call(ADMIN(), "counter.get")
    assert world.suspended == 0


async def test_a_call_that_waits_says_so_and_goes_on_in_the_same_task() -> None:
    world = World()
    assert (await world.call(ADMIN(), "counter.pause"))["result"] == "same"
    assert world.suspended == 1


async def test_a_call_that_waits_too_long_fails_and_frees_its_place() -> None:
    world, client = World(deadline_s=0.02), ADMIN()
    told = data(await world.call(client, "counter.wait"))
    assert (told["error"], told["reason"]) == (110, "counter.wait did not answer within 0.02 s")
    assert client.calls_waiting == 0


async def test_one_client_may_not_have_more_than_its_share_of_calls_under_way() -> None:
    world, client = World(), ADMIN()
    waiting = [asyncio.create_task(world.call(client, "counter.wait")) for _ in range(CALLS_LIMIT)]
    await asyncio.sleep(0)
    try:
        refused = await world.call(client, "counter.get")
        assert refused["error"]["code"] == -32000  # type: ignore[index]
        assert (await world.call(ADMIN(), "counter.get"))["result"] == 0
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (await world.call(client, "counter.get"))["result"] == 0


async def test_the_calls_of_a_batch_are_carried_out_in_its_order() -> None:
    world = World()
    one = '{"jsonrpc":"2.0","method":"counter.add","params":[{"n":%d}]%s}'
    answer = await world.send(
        ADMIN(), "[" + ",".join([one % (1, ',"id":1'), one % (2, ""), one % (4, ',"id":3')]) + "]"
    )
    assert isinstance(answer, list)
    assert [(a["id"], a["result"]) for a in answer] == [(1, 1), (3, 7)]


async def test_a_notification_is_carried_out_silently_even_when_it_fails() -> None:
    world = World()
    assert await world.send(ADMIN(), '{"jsonrpc":"2.0","method":"counter.add","params":[{"n":2}]}') is None
    assert await world.send(ADMIN(), '{"jsonrpc":"2.0","method":"counter.add","params":[{"n":-2}]}') is None
    assert world.engine.states["counter"] == Count(2)


async def test_before_the_login_a_text_must_be_short() -> None:
    world = World()
    text = json.dumps({"jsonrpc": "2.0", "method": "counter.open", "params": [1, "x" * 70_000], "id": 1})
    refused = await world.send(session(login=False), text)
    assert refused["error"]["code"] == -32600  # type: ignore[index]
    assert await world.send(ADMIN(), text) == {"jsonrpc": "2.0", "id": 1, "result": [1, "x" * 70_000]}


async def test_an_error_that_a_handler_raises_reaches_the_client() -> None:
    world = World()
    world.engine.refusal = CallFailed(17, "there is one", {"id": 4})
    told = data(await world.call(ADMIN(), "counter.add", {"n": 1}))
    assert (told["errname"], told["reason"], told["extra"]) == ("EEXIST", "there is one", {"id": 4})
