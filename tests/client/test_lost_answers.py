"""A controller goes away in the middle of a call: what is sent again, where, and what never is."""

from __future__ import annotations

import asyncio
import errno

import pytest

from middlewared.client import Connection
from middlewared.kernel.errors import (
    CallFailed,
    ConfigBehind,
    NoRole,
    NotActive,
    OutcomeUnknown,
)
from middlewared.shell.websocket import ApiServer
from tests.client.conftest import Add, Node, far, lost


async def test_a_query_whose_answer_was_lost_is_asked_again_elsewhere(a: Node, b: Node) -> None:
    a.hangs = True
    async with far(a, b) as client:
        call = asyncio.create_task(client.call("test.query"))
        await asyncio.wait_for(a.reached.wait(), 5)
        await a.die()
        assert await call == "b"


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
