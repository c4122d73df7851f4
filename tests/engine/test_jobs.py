"""Jobs as a client sees them: through the dispatcher and the bus, with the frames in their order."""

from __future__ import annotations

import asyncio
import errno
import json
from itertools import count
from typing import Any

import pytest
from middlewared_plugins.core import plugin as core

from middlewared.engine.jobs import HISTORY, UNDER_WAY
from middlewared.engine.peer import Questions
from middlewared.engine.standin import dispatcher
from middlewared.kernel.errors import CallFailed, NotActive, Refused
from middlewared.plugin import JobCall, Plugin, job
from middlewared.protocol.session import Session
from tests.shell.loopback import until

UUID = "0d9b7a52-6a58-4a52-8e9a-b2d3f6d6f0aa"
WITHIN_S = 5.0


class Gate:
    """What the job of these tests waits for."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.running = 0


gate: Gate


@job("test.work", roles=("WORK",))
async def work(call: JobCall, n: int, password: str = "") -> dict[str, object]:
    gate.running += 1
    try:
        call.progress(25, "step 1")
        await gate.open.wait()
        return {"n": n, "by": call.session.username}
    finally:
        gate.running -= 1


@job("test.fail", takes="work")
async def fail(call: JobCall, how: str) -> None:
    raise {"refused": Refused(("n", "is negative")), "failed": CallFailed(errno.EEXIST, "There is one", {"id": 4})}.get(
        how, RuntimeError("a secret detail")
    )


@job("test.write", kind="write")
async def write(call: JobCall) -> str:
    return "written"


@job("test.last", abortable=False)
async def last(call: JobCall) -> None:
    await gate.open.wait()


@job("test.on", turn=lambda what, waits=True: what if waits else None)
async def on(call: JobCall, what: str, waits: bool = True) -> None:
    await work.handler(call, 0)


class World:
    def __init__(self) -> None:
        methods = (work, fail, write, last, on)
        self.answers, self.engine, self.bus = dispatcher(core, Plugin(name="test", methods=methods))
        self.wakes = 0

    def client(self, username: str = "root", *roles: str, new_style: bool = True) -> Session:
        ids = count()
        made = Session(id="s", origin="10.0.0.9:5", local_root=False, new_id=lambda: f"id{next(ids)}")
        made.log_in(username, frozenset(roles or {"FULL_ADMIN"}))
        made.options["legacy_jobs"] = not new_style
        self.bus.attach(made, lambda: None)
        made.subscribe("core.get_jobs")
        return made

    async def call(self, client: Session, method: str, *params: object, id: str = UUID) -> dict[str, Any]:  # noqa: A002
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
        async with asyncio.timeout(WITHIN_S):
            answer = await self.answers.answer(client, text, lambda: None)
        assert answer is not None
        reply: dict[str, Any] = json.loads(answer)
        return reply

    def told(self, client: Session) -> list[dict[str, Any]]:
        """The notifications that wait for a client."""
        return [json.loads(frame)["params"] for frame in client.outbox]

    async def close(self) -> None:
        gate.open.set()
        await self.answers.jobs.close()


@pytest.fixture
async def world() -> Any:
    global gate
    gate = Gate()
    made = World()
    yield made
    await made.close()


async def until_running() -> None:
    await until(lambda: gate.running > 0)


async def test_a_job_is_told_from_its_beginning_to_its_end_and_then_the_call_is_answered(world: World) -> None:
    client = world.client()
    gate.open.set()
    reply = await world.call(client, "test.work", 7)
    told = world.told(client)
    assert [(t["msg"], t["fields"]["state"]) for t in told] == [
        ("added", "WAITING"),
        ("changed", "RUNNING"),
        ("changed", "SUCCESS"),
    ]
    assert reply["result"] == {"n": 7, "by": "root"}
    end = told[-1]
    assert (end["collection"], end["id"]) == ("core.get_jobs", 1)
    assert end["fields"] == {
        "id": 1,
        "message_ids": [UUID],
        "method": "test.work",
        "arguments": [7],
        "transient": False,
        "description": None,
        "abortable": True,
        "logs_path": None,
        "logs_excerpt": None,
        "progress": {"percent": 100, "description": "step 1", "extra": None},
        "result": {"n": 7, "by": "root"},
        "result_encoding_error": None,
        "error": None,
        "exception": None,
        "exc_info": None,
        "state": "SUCCESS",
        "time_started": {"$date": 1767225600000},
        "time_finished": {"$date": 1767225600000},
        "credentials": {"type": "LOGIN_PASSWORD", "data": {"username": "root"}},
    }


async def test_progress_is_told_while_it_runs(world: World) -> None:
    client = world.client()
    running = asyncio.create_task(world.call(client, "test.work", 7))
    await until(lambda: len(client.outbox) == 3)
    assert world.told(client)[-1]["fields"]["progress"] == {"percent": 25, "description": "step 1", "extra": None}
    gate.open.set()
    await running


async def test_an_old_client_gets_the_number_at_once(world: World) -> None:
    client = world.client(new_style=False)
    assert (await world.call(client, "test.work", 7))["result"] == 1
    await until_running()
    assert client.calls_waiting == 0


async def test_secrets_among_the_arguments_are_never_shown(world: World) -> None:
    client = world.client(new_style=False)
    await world.call(client, "test.work", 7, "swordfish")
    assert world.told(client)[0]["fields"]["arguments"] == [7, "********"]


@pytest.mark.parametrize(
    ("how", "error", "kind", "extra", "code"),
    [
        ("refused", "[EINVAL] work.n: is negative", "VALIDATION", [["work.n", "is negative", 22]], -32602),
        ("failed", "[EEXIST] There is one", "CallFailed", {"id": 4}, -32001),
    ],
)
async def test_a_job_that_fails_says_why_in_its_last_notification_and_in_the_answer(
    world: World, how: str, error: str, kind: str, extra: object, code: int
) -> None:
    client = world.client()
    reply = await world.call(client, "test.fail", how)
    end = world.told(client)[-1]["fields"]
    assert (end["state"], end["error"], end["exception"]) == ("FAILED", error, error)
    assert (end["exc_info"]["type"], end["exc_info"]["extra"]) == (kind, extra)
    assert (reply["error"]["code"], reply["error"]["data"]["extra"]) == (code, extra)


async def test_a_fault_of_the_program_ends_the_job_and_is_not_shown(world: World) -> None:
    client = world.client()
    reply = await world.call(client, "test.fail", "fault")
    assert world.told(client)[-1]["fields"]["state"] == "FAILED"
    assert "secret" not in json.dumps([reply, world.told(client)])


async def test_what_is_wrong_before_it_begins_is_an_ordinary_answer_and_no_job(world: World) -> None:
    client = world.client()
    assert (await world.call(client, "test.work", "seven"))["error"]["code"] == -32602
    world.engine.refusal = NotActive("B", ["http://a"])
    assert (await world.call(client, "test.write"))["error"]["data"]["error"] == errno.EROFS
    assert (await world.call(world.client("eva", "OTHER"), "test.work", 1))["error"]["data"]["error"] == errno.EACCES
    assert world.told(client) == []


async def test_an_abort_ends_it_and_who_waits_is_told(world: World) -> None:
    client = world.client()
    running = asyncio.create_task(world.call(client, "test.work", 7))
    await until_running()
    assert (await world.call(client, "core.job_abort", 1))["result"] is None
    assert (await running)["error"]["data"]["error"] == errno.ECANCELED
    end = world.told(client)[-1]["fields"]
    assert (end["state"], end["error"], end["exc_info"]) == ("ABORTED", None, None)
    assert gate.running == 0


async def test_a_job_that_has_not_begun_can_be_aborted_and_the_next_one_takes_its_turn(world: World) -> None:
    client = world.client(new_style=False)
    for n in range(3):
        await world.call(client, "test.work", n, id=str(n))
    await until_running()
    await world.call(client, "core.job_abort", 2, id="x")
    gate.open.set()
    assert (await world.call(client, "core.job_wait", 3, id="y"))["result"] == {"n": 2, "by": "root"}
    states = [(j["id"], j["state"]) for j in (await world.call(client, "core.get_jobs", id="z"))["result"]]
    assert states == [(1, "SUCCESS"), (2, "ABORTED"), (3, "SUCCESS")]


async def test_one_that_cannot_be_aborted_refuses(world: World) -> None:
    client = world.client(new_style=False)
    await world.call(client, "test.last")
    assert (await world.call(client, "core.job_abort", 1))["error"]["data"]["error"] == errno.EPERM


async def test_jobs_of_one_method_run_one_after_the_other(world: World) -> None:
    client = world.client(new_style=False)
    for n in range(3):
        await world.call(client, "test.work", n, id=str(n))
    await until_running()
    await asyncio.sleep(0.01)
    assert gate.running == 1


async def test_a_method_may_say_which_jobs_wait_for_one_another_and_which_for_none(world: World) -> None:
    client = world.client(new_style=False)
    for n, params in enumerate([("tank",), ("tank",), ("dozer",), ("tank", False)]):
        await world.call(client, "test.on", *params, id=str(n))
    await until(lambda: gate.running > 2)
    await asyncio.sleep(0.01)
    jobs = (await world.call(client, "core.get_jobs", id="z"))["result"]
    assert [one["state"] for one in jobs] == ["RUNNING", "WAITING", "RUNNING", "RUNNING"]


async def test_a_call_that_comes_again_under_its_id_joins_the_job_that_it_began(world: World) -> None:
    first, again = world.client(), world.client()
    calls = [asyncio.create_task(world.call(client, "test.work", 7)) for client in (first, again)]
    await until_running()
    gate.open.set()
    assert [(await call)["result"] for call in calls] == [{"n": 7, "by": "root"}] * 2
    assert len(world.answers.jobs.views("root", frozenset())) == 1


async def test_a_call_under_an_id_that_others_may_have_too_begins_a_job_of_its_own(world: World) -> None:
    gate.open.set()
    first = await world.call(world.client(), "test.work", 1, id="1")
    again = await world.call(world.client(), "test.work", 2, id="1")
    assert (first["result"]["n"], again["result"]["n"]) == (1, 2)


async def test_a_job_goes_on_as_who_began_it_when_its_client_goes(world: World) -> None:
    client = world.client("eva", "WORK")
    running = asyncio.create_task(world.call(client, "test.work", 7))
    await until_running()
    running.cancel()
    client.log_out()
    gate.open.set()
    done = await world.answers.jobs.wait(1, WITHIN_S)
    assert done["result"] == {"n": 7, "by": "eva"}


async def test_a_job_is_for_who_began_it_and_for_administrators(world: World) -> None:
    eva, ida, root = world.client("eva", "WORK", new_style=False), world.client("ida", "WORK"), world.client()
    await world.call(eva, "test.work", 7)
    await until_running()
    assert [len(world.told(client)) > 0 for client in (eva, ida, root)] == [True, False, True]
    assert (await world.call(ida, "core.get_jobs"))["result"] == []
    assert (await world.call(ida, "core.job_abort", 1))["error"]["data"]["error"] == errno.ENOENT
    assert len((await world.call(root, "core.get_jobs"))["result"]) == 1


async def test_jobs_are_filtered_counted_and_ordered(world: World) -> None:
    client = world.client()
    gate.open.set()
    for n in range(3):
        await world.call(client, "test.work", n, id=str(n))

    async def ids(*params: object) -> object:
        result = (await world.call(client, "core.get_jobs", *params, id="q"))["result"]
        return [row["id"] for row in result] if isinstance(result, list) else result

    assert await ids([["id", "=", 2]]) == [2]
    assert await ids([["state", "in", ["SUCCESS"]], ["id", ">", 1]], {"order_by": ["-id"], "limit": 1}) == [3]
    assert await ids([], {"count": True}) == 3
    got = (await world.call(client, "core.get_jobs", [["id", "=", 3]], {"get": True}, id="q"))["result"]
    assert got["arguments"] == [2]
    assert (await world.call(client, "core.get_jobs", [["id", "~~", 1]], id="q"))["error"]["code"] == -32602


async def test_what_is_kept_and_what_runs_is_bounded(world: World) -> None:
    client = world.client(new_style=False)
    for n in range(UNDER_WAY):
        await world.call(client, "test.work", n, id=str(n))
    assert (await world.call(client, "test.work", 99, id="99"))["error"]["data"]["error"] == errno.EBUSY
    gate.open.set()
    await world.answers.jobs.wait(UNDER_WAY, WITHIN_S)
    for n in range(HISTORY + 5):
        await world.call(client, "test.write", id=f"w{n}")
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert len(world.answers.jobs.views("root", frozenset({"FULL_ADMIN"}))) == HISTORY


async def test_the_other_controller_begins_looks_at_and_ends_a_job_here(world: World) -> None:
    ask = Questions(world.answers)
    id_ = await ask("core.job_start", ["test.work", [5], "eva"])
    await until_running()
    looked = await ask("core.job_look", [id_])
    assert isinstance(looked, dict)
    assert (looked["state"], looked["credentials"]["data"]["username"]) == ("RUNNING", "eva")
    await ask("core.job_end", [id_])
    looked = await ask("core.job_look", [id_])
    assert isinstance(looked, dict)
    assert looked["state"] == "ABORTED"


@pytest.mark.parametrize("method", ["core.ping", "test.write", "test.later"])
async def test_the_other_controller_begins_nothing_but_jobs_that_write_nothing(world: World, method: str) -> None:
    with pytest.raises(CallFailed, match="that has no job"):
        await Questions(world.answers)("core.job_start", [method, [], "eva"])
