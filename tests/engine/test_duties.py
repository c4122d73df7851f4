from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import configuration
from middlewared_plugins.network import plugin as network

from middlewared.engine.duties import Duties
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.errors import CallFailed, NotActive
from middlewared.plugin import Duty, DutyCall
from tests.engine.controllers import until

EVERY_S = 0.001


@asynccontextmanager
async def kept(duty: Duty, engine: MemoryEngine) -> AsyncIterator[None]:
    task = asyncio.create_task(Duties([duty], engine, engine).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def name_it(call: DutyCall) -> None:
    await call.execute(configuration.Update(domain="by-duty.example"), request_id="r-1")


async def test_a_duty_is_done_in_this_products_name_while_this_controller_may_write() -> None:
    _, engine, _ = dispatcher(network, failover)
    engine.refusal = NotActive("A", [])
    done: list[int] = []

    async def count(call: DutyCall) -> None:
        done.append(1)
        await name_it(call)

    async with kept(Duty(name="count", run=count, every_s=EVERY_S), engine):
        await asyncio.sleep(10 * EVERY_S)
        assert done == []
        engine.refusal = None
        await until(lambda: len(done) > 2)
    assert engine.executed[0][1:] == ("middlewared", "A", "r-1")
    assert engine.states["network.configuration"].domain == "by-duty.example"


@pytest.mark.parametrize("error", [CallFailed(5, "not today"), RuntimeError("a fault")])
async def test_a_duty_that_fails_is_logged_once_and_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    _, engine, _ = dispatcher(network, failover)
    tries: list[int] = []

    async def fail(_: DutyCall) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise error

    async with kept(Duty(name="fail", run=fail, every_s=EVERY_S), engine):
        await until(lambda: len(tries) > 4)
    said = [record.getMessage() for record in caplog.records if "event=duty name" in record.getMessage()]
    assert [line.endswith("why=None") for line in said] == [False, True]
