"""Calls to a controller that answers, that is not there, or that is not the one."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Callable

import msgspec
import pytest

from middlewared.client import Client, Connection, SyncClient, only_asks, parse
from middlewared.kernel.errors import (
    CallFailed,
    NoRole,
    NotActive,
    NotAuthorized,
    OutcomeUnknown,
    PortFailed,
    Refused,
    UnknownMethod,
)
from tests.client.conftest import Node, far


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


async def test_a_job_that_is_asked_for_again_under_its_id_is_joined(a: Node) -> None:
    a.hangs = True
    id_ = str(uuid.uuid4())
    async with Client(a.unix) as client:
        with pytest.raises(OutcomeUnknown) as error:
            await client.call_job("test.job", "x", timeout_s=0.3, request_id=id_)
        assert error.value.request_id == id_
        a.let_go.set()
        assert await client.call_job("test.job", "x", request_id=id_) == a.name + "x"
    assert a.calls == 1


async def test_the_time_for_a_job_is_for_all_of_it(a: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is slow to say that it will tell of jobs, and the job slow to end: that is one wait, not two."""
    a.hangs = True
    hear = Connection._hear_jobs

    async def slowly(self: Connection, timeout_s: float) -> None:
        await asyncio.sleep(0.4)
        await hear(self, timeout_s)

    monkeypatch.setattr(Connection, "_hear_jobs", slowly)
    async with Client(a.unix) as client:
        await client.ping()
        begin = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await client.call_job("test.job", timeout_s=0.6)
        assert time.monotonic() - begin < 0.9


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
