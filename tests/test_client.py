from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from middlewared_plugins.auth import login
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.attempts import Attempts
from middlewared_plugins.core import plugin as core
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.client import Client, Connection, SyncClient, only_asks, parse
from middlewared.config import BootFile
from middlewared.engine.bus import Bus
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.errors import (
    CallFailed,
    ConfigBehind,
    NoRole,
    NotActive,
    NotAuthorized,
    OutcomeUnknown,
    PortFailed,
    Refused,
    UnknownMethod,
)
from middlewared.kernel.event import Event
from middlewared.plugin import Announcement, Call, Command, Noun, Plugin, command, job, local, query
from middlewared.shell.websocket import ApiServer
from middlewared.subscriptions import Subscription

SECRET = "s3cret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tally(msgspec.Struct, frozen=True):
    n: int = 0


class Add(Command, frozen=True, kw_only=True):
    noun: ClassVar[str] = "tally"


class Added(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "tally.added"


TALLY: Noun[Tally] = Noun(
    name="tally",
    initial=Tally(),
    events=(Added,),
    decide=lambda _, __: [Added()],
    evolve=lambda state, _: Tally(state.n + 1),
    table=Table("tally", MetaData(), Column("n", Integer, primary_key=True)),
    project=lambda state: [{"n": state.n}],
    restore=lambda rows: Tally(),
)


class Node:
    """One server with two methods that can be made to hang: one that writes, one that asks."""

    def __init__(self, directory: Path, name: str) -> None:
        run_dir = directory / name
        run_dir.mkdir()
        self.boot = BootFile(node="A", run_dir=str(run_dir), listen=f"127.0.0.1:{free_port()}")
        self.url = f"http://{self.boot.listen}"
        self.engine: MemoryEngine
        self.bus: Bus
        methods = (
            command("test.write")(self._answer),
            query("test.query")(self._answer),
            job("test.job")(self._answer),
            command("test.add")(self._add),
            local("test.act")(self._answer),
        )
        announced = Announcement(collection="test.announced", query="test.query", field="text")
        test = Plugin(name="test", nouns=(TALLY,), methods=methods, announces=(announced,))
        self._answers, self.engine, self.bus = dispatcher(core, auth, test)
        self.log = self.engine.log
        self.server = ApiServer(self._answers, self.bus, self.boot)
        self.name = name
        self.hangs = False
        self.calls = 0
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    @property
    def unix(self) -> str:
        return f"ws+unix://{self.boot.api_socket}"

    async def die(self) -> None:
        await self.server.stop()

    def goes_on_from(self, other: Node) -> None:
        """Have the log of another node, as after a takeover."""
        self._answers.engine = self.engine = other.engine

    async def _add(self, call: Call) -> int:
        await call.execute(Add())
        await self._answer(call)
        return call.state(TALLY).n

    async def _answer(self, call: Call, text: str = "") -> str:
        self.calls += 1
        self.reached.set()
        if self.hangs:
            await self.let_go.wait()
        return self.name + text


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[[str], Node]]:
    nodes: list[Node] = []
    login._attempts = Attempts()

    def made(name: str) -> Node:
        nodes.append(Node(tmp_path, name))
        return nodes[-1]

    try:
        yield made
    finally:
        for node in nodes:
            await node.server.stop()


@pytest.fixture
async def a(make: Callable[[str], Node]) -> Node:
    return await started(make("a"))


@pytest.fixture
async def b(make: Callable[[str], Node]) -> Node:
    return await started(make("b"))


async def started(node: Node) -> Node:
    await node.server.start()
    async with Client(node.unix) as client:
        await client.call("user.setup_local_administrator", "root", SECRET)
    return node


def far(*nodes: Node, **settings: float) -> Client:
    return Client(*(node.url for node in nodes), username="root", password=SECRET, **settings)  # type: ignore[arg-type]


async def test_a_method_is_called_on_tcp_and_on_the_unix_socket(a: Node) -> None:
    for client in (Client(a.unix), far(a)):
        async with client:
            assert await client.ping() == "pong"
            assert await client.call("test.query", " x") == "a x"


async def test_what_the_server_raises_is_raised(a: Node) -> None:
    async with far(a) as client:
        with pytest.raises(UnknownMethod):
            await client.call("no.such")
        with pytest.raises(Refused) as refused:
            await client.call("test.query", 5)
        assert refused.value.problems == (("text", "must be a string, not a whole number", 22),)
        with pytest.raises(CallFailed, match="unix socket"):
            await client.call("user.setup_local_administrator", "eva", "x")


async def test_a_wrong_password_is_said(a: Node) -> None:
    async with Client(a.url, username="root", password="wrong") as client:
        with pytest.raises(NotAuthorized, match="wrong name or password"):
            await client.ping()


async def test_meta_comes_with_the_whole_reply(a: Node) -> None:
    async with Client(a.unix, durability=True) as client:
        assert (await client.request("core.ping", [])).meta is None


async def test_calls_side_by_side_get_their_own_answers(a: Node) -> None:
    async with far(a) as client:
        await client.ping()
        got = await asyncio.gather(*(client.call("test.query", str(i)) for i in range(50)))
    assert got == [f"a{i}" for i in range(50)]


async def test_calls_that_find_no_connection_share_one(a: Node) -> None:
    async with far(a) as client:
        got = await asyncio.gather(*(client.call("test.write", str(i)) for i in range(15)))
    assert got == [f"a{i}" for i in range(15)]


async def test_writes_side_by_side_that_the_standby_refuses_all_go_to_the_active_controller(a: Node, b: Node) -> None:
    async with far(a, b) as client:
        await client.ping()
        a.engine.refusal = NotActive("A", [b.url])
        got = await asyncio.gather(*(client.call("test.write", str(i)) for i in range(15)))
    assert got == [f"b{i}" for i in range(15)]


async def test_a_call_under_way_gets_its_answer_though_the_client_moves_on(a: Node, b: Node) -> None:
    a.hangs = True
    async with far(a, b) as client:
        waiting = asyncio.create_task(client.call("test.write"))
        await asyncio.wait_for(a.reached.wait(), 5)
        a.engine.refusal = NotActive("A", [b.url])
        assert await client.call("test.write") == "b"
        a.let_go.set()
        assert await waiting == "a"


async def test_a_long_answer_comes_whole(a: Node) -> None:
    async with far(a) as client:
        assert await client.call("test.query", "x" * 500_000) == "a" + "x" * 500_000


# When a controller is not there


async def test_nobody_there_is_said_at_once_with_the_address(make: Callable[[str], Node]) -> None:
    node = make("a")
    with pytest.raises(PortFailed, match=f"connect to {node.url}: Connection refused"):
        await Client(node.url).ping()
    with pytest.raises(PortFailed, match="No such file"):
        await Client(node.unix).ping()


async def test_a_server_that_accepts_and_says_nothing_is_given_up(make: Callable[[str], Node]) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(PortFailed, match=r"no answer within 0\.1 s"):
            await Client(f"http://127.0.0.1:{mute.getsockname()[1]}", connect_s=0.1).ping()


async def test_the_next_address_is_used_when_the_first_does_not_answer(make: Callable[[str], Node], b: Node) -> None:
    async with far(make("a"), b) as client:
        assert await client.call("test.query") == "b"
        assert client.uri == b.url


async def test_a_patient_client_waits_for_a_server_to_come(make: Callable[[str], Node]) -> None:
    node = make("a")
    async with Client(node.unix, patience_s=5.0) as client:
        call = asyncio.create_task(client.ping())
        await asyncio.sleep(0)
        await node.server.start()
        assert await call == "pong"


# When a controller goes away in the middle


async def test_a_query_whose_answer_was_lost_is_asked_again_elsewhere(a: Node, b: Node) -> None:
    a.hangs = True
    async with far(a, b) as client:
        call = asyncio.create_task(client.call("test.query"))
        await asyncio.wait_for(a.reached.wait(), 5)
        await a.die()
        assert await call == "b"


async def lost(node: Node, call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """The call was carried out on `node`, and the node died before it could answer."""
    node.hangs = True
    task = asyncio.create_task(call)
    await asyncio.wait_for(node.reached.wait(), 5)
    await node.die()
    return task


async def test_a_write_whose_answer_was_lost_is_asked_for_elsewhere_and_done_once(a: Node, b: Node) -> None:
    b.goes_on_from(a)
    async with far(a, b) as client:
        assert await (await lost(a, client.call("test.add"))) == 1
        assert await client.call("test.add") == 2
    assert sum(isinstance(asked[0], Add) for asked in a.engine.executed) == 2


async def test_a_write_whose_answer_was_lost_is_asked_for_at_the_same_address_when_that_answers_again(a: Node) -> None:
    async with far(a) as client:
        call = await lost(a, client.call("test.add"))
        a.hangs = False
        a.server = ApiServer(a._answers, a.bus, a.boot)
        await a.server.start()
        assert await call == 1


async def test_until_somebody_may_write_again_the_client_goes_on_asking(a: Node, b: Node) -> None:
    b.goes_on_from(a)
    async with far(a, b) as client:
        await client.ping()
        call = await lost(a, client.call("test.add"))
        a.engine.refusal = NoRole("taking over", retry_after_s=0.02)
        await asyncio.sleep(0.1)
        for refusal in (NotActive("B", [a.url]), ConfigBehind("not yet"), None):
            assert not call.done()
            a.engine.refusal = refusal
            await asyncio.sleep(0.25)
        assert await call == 1


async def test_a_write_whose_answer_was_lost_is_not_sent_again_to_a_build_that_remembers_nothing(
    a: Node, b: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "remembers", property(lambda _: False, lambda *_: None), raising=False)
    async with far(a, b) as client:
        call = await lost(a, client.call("test.write"))
        with pytest.raises(OutcomeUnknown):
            await call
        assert b.calls == 0
        assert await client.call("test.write") == "b"


@pytest.mark.parametrize("method", ["test.act", "test.job"])
async def test_what_acts_on_one_controller_only_is_never_sent_twice(a: Node, b: Node, method: str) -> None:
    async with far(a, b) as client:
        call = await lost(a, client.call(method))
        with pytest.raises(OutcomeUnknown):
            await call
    assert b.calls == 0


async def test_a_write_is_not_sent_twice_when_the_caller_says_so(a: Node, b: Node) -> None:
    b.goes_on_from(a)
    async with far(a, b) as client:
        call = await lost(a, client.call("test.add", again=False))
        with pytest.raises(OutcomeUnknown):
            await call
    assert b.calls == 0


async def test_an_outcome_that_stays_unknown_names_the_id_with_which_to_ask_again(a: Node, b: Node) -> None:
    b.goes_on_from(a)
    async with far(a) as client:
        call = await lost(a, client.call("test.add", timeout_s=0.5))
        with pytest.raises(OutcomeUnknown) as error:
            await call
    async with far(b) as client:
        assert await client.call("test.add", request_id=error.value.request_id) == 1
        assert await client.call("test.add") == 2


async def test_a_refusal_of_the_second_copy_is_the_answer(a: Node, b: Node) -> None:
    async with far(a, b) as client:
        call = await lost(a, client.call("test.write"))
        assert await call == "b"
        b.engine.refusal = CallFailed(errno.EEXIST, "there is one")
        with pytest.raises(CallFailed, match="there is one"):
            await client.call("test.write")


async def test_a_write_may_be_sent_twice_when_the_caller_says_so(a: Node, b: Node) -> None:
    a.hangs = True
    async with far(a, b) as client:
        call = asyncio.create_task(client.call("test.write", again=True))
        await asyncio.wait_for(a.reached.wait(), 5)
        await a.die()
        assert await call == "b"


async def test_a_call_that_takes_too_long_has_an_unknown_outcome(a: Node) -> None:
    a.hangs = True
    async with far(a) as client:
        await client.ping()
        with pytest.raises(OutcomeUnknown):
            await client.call("test.write", timeout_s=0.05)


# When a controller is not the one


async def test_a_write_that_the_standby_refuses_goes_to_the_active_controller(a: Node, b: Node) -> None:
    async with far(a, b) as client:
        assert await client.call("test.write") == "a"
        a.engine.refusal = NotActive("A", [b.url])
        assert await client.call("test.write") == "b"
        assert client.uri == b.url


async def test_a_client_goes_to_no_address_that_it_was_not_given(a: Node, b: Node) -> None:
    a.engine.refusal = NotActive("A", [b.url])
    async with far(a) as client:
        with pytest.raises(NotActive):
            await client.call("test.write")
    assert b.calls == 0


async def test_a_login_that_the_standby_redirects_goes_to_the_active_controller(a: Node, b: Node) -> None:
    a.engine.facts_now = msgspec.structs.replace(a.engine.facts_now, status="BACKUP", active_urls=(b.url,))
    async with far(a, b) as client:
        assert await client.call("test.write") == "b"


async def test_two_standbys_that_point_at_each_other_do_not_hold_a_client_for_ever(a: Node, b: Node) -> None:
    a.engine.refusal, b.engine.refusal = NotActive("A", [b.url]), NotActive("B", [a.url])
    async with far(a, b) as client:
        begin = time.monotonic()
        with pytest.raises((NotActive, OutcomeUnknown, PortFailed)):
            await client.call("test.write", timeout_s=0.5)
        assert time.monotonic() - begin < 2
    assert a.calls == b.calls == 0


async def test_a_controller_without_a_role_yet_is_asked_again(a: Node) -> None:
    a.engine.refusal = NoRole("starting", retry_after_s=0.02)
    async with far(a) as client:
        await client.ping()
        call = asyncio.create_task(client.call("test.write"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, setattr, a.engine, "refusal", None)
        assert await call == "a"
        a.engine.refusal = NoRole("starting", retry_after_s=0.02)
        with pytest.raises(CallFailed, match="starting"):
            await client.call("test.write", timeout_s=0.05)


# Subscriptions


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


def commit(*nodes: Node, n: int = 1, term: int = 1) -> None:
    """The same records on every node."""
    for node in nodes:
        for _ in range(n):
            node.bus.committed("user", "user.changed", node.log.append("user.administrator.set_up", term))


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


# Small things


async def test_a_job_is_awaited_with_its_progress_and_calls_go_on_beside_it(a: Node) -> None:
    seen: list[tuple[str, float]] = []
    a.hangs = True
    async with Client(a.unix) as client:
        running = asyncio.create_task(
            client.call_job("test.job", "x", progress=lambda j: seen.append((j["state"], j["progress"]["percent"])))
        )
        await a.reached.wait()
        assert await client.ping() == "pong"
        a.let_go.set()
        assert await running == a.name + "x"
    assert seen[0] == ("WAITING", 0)
    assert seen[-1] == ("SUCCESS", 100)


async def test_a_job_whose_controller_goes_down_has_an_unknown_outcome(a: Node) -> None:
    a.hangs = True
    async with Client(a.unix) as client:
        running = asyncio.create_task(client.call_job("test.job"))
        await a.reached.wait()
        await a.die()
        with pytest.raises(OutcomeUnknown):
            await running


async def test_code_without_an_event_loop_has_a_client_too(a: Node) -> None:
    def work() -> object:
        with SyncClient(a.unix) as client:
            return client.call("test.query", "!")

    assert await asyncio.to_thread(work) == "a!"


async def test_code_without_an_event_loop_hears_of_changes_too(a: Node) -> None:
    commit(a, n=3)

    def work() -> list[object]:
        with SyncClient(a.unix) as client:
            notices = client.subscribe("user", since=1)
            return [next(notices)["seq"] for _ in range(3)]

    assert await asyncio.to_thread(work) == [2, 3, 4]


@pytest.mark.parametrize(
    ("uri", "host", "port", "tls", "path"),
    [
        ("http://h", "h", 80, False, "/api/current"),
        ("http://h:8080/", "h", 8080, False, "/api/current"),
        ("https://h", "h", 443, True, "/api/current"),
        ("ws://[fd00::1]:81/api/current?x=1", "fd00::1", 81, False, "/api/current?x=1"),
        ("ws://h/", "h", 80, False, "/"),
    ],
)
def test_an_address_is_read(uri: str, host: str, port: int, tls: bool, path: str) -> None:
    address = parse(uri)
    assert (address.host, address.port, address.tls, address.path, address.socket) == (host, port, tls, path, None)


def test_the_path_of_a_unix_socket_is_read() -> None:
    assert parse("ws+unix:///run/x.sock").socket == "/run/x.sock"


@pytest.mark.parametrize("uri", ["", "host", "host:80", "ftp://h", "http://", "ws+unix://", "http://h:99999"])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(PortFailed, match="read the address"):
        parse(uri)


def test_a_method_is_sent_twice_only_when_its_name_says_that_it_asks() -> None:
    asking = ["core.ping", "network.configuration.config", "user.query", "core.get_jobs", "auth.mechanism_choices"]
    assert [m for m in asking if not only_asks(m)] == []
    others = ["network.configuration.update", "failover.force_master", "user.setup_local_administrator", "x.forget"]
    assert [m for m in others if only_asks(m)] == []


async def test_the_first_text_sets_the_options_and_is_in_the_form_that_servers_know() -> None:
    from middlewared.protocol.rpc import encode_request

    text = json.loads(encode_request("i", "core.set_options", [{"legacy_jobs": False}]))
    assert text == {"jsonrpc": "2.0", "method": "core.set_options", "id": "i", "params": [{"legacy_jobs": False}]}
