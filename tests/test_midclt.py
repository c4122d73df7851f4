from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.core import plugin as core

from middlewared.config import BootFile
from middlewared.engine.bus import Bus
from middlewared.engine.standin import dispatcher
from middlewared.kernel.errors import Refused
from middlewared.plugin import Call, JobCall, Plugin, command, job, query
from middlewared.shell.websocket import ApiServer

WAIT_S = 20.0


@query("test.echo", public=True)
async def echo(call: Call, value: object = None, other: object = None) -> object:
    return value if other is None else [value, other]


@query("test.number", public=True)
async def number(call: Call, n: int, m: int) -> int:
    return n + m


@job("test.job")
async def work(call: JobCall, how: str) -> dict[str, str]:
    call.progress(50, "half")
    await asyncio.sleep(0.3)
    if how == "refused":
        raise Refused(("how", "is wrong"))
    return {"how": how}


@command("test.slow")
async def slow(call: Call) -> None:
    await asyncio.sleep(WAIT_S)


class World:
    def __init__(self, directory: Path) -> None:
        self.boot = BootFile(node="A", run_dir=str(directory), listen="127.0.0.1:1")
        self.go = asyncio.Event()
        methods = (echo, number, work, slow, job("test.until")(self._until_go))
        made, engine, self.bus = dispatcher(core, auth, Plugin(name="test", methods=methods))
        self.log = engine.log
        self.server = ApiServer(made, self.bus, self.boot)
        self.uri = f"ws+unix://{self.boot.api_socket}"

    async def _until_go(self, call: JobCall) -> str:
        await self.go.wait()
        return "gone"

    async def midclt(self, *args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        child = await self.spawn(*args)
        out, err = await asyncio.wait_for(child.communicate(stdin), WAIT_S)
        assert child.returncode is not None
        return child.returncode, out.decode(), err.decode()

    async def spawn(self, *args: str) -> asyncio.subprocess.Process:
        pipe = subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "middlewared.midclt", "-u", self.uri, *args, stdin=pipe, stdout=pipe, stderr=pipe
        )


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(BootFile, "listen_address", ("127.0.0.1", 0))
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop()


async def test_an_unknown_outcome_names_the_id_and_how_to_ask_again(world: World) -> None:
    id_ = "0d9b7a52-6a58-4a52-8e9a-b2d3f6d6f0aa"
    status, out, err = await world.midclt("-t", "0.5", "call", "--request-id", id_, "test.slow")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"[ETIMEDOUT] The outcome of request {id_} is not known yet; ask again with the same request_id",
        f"ask again for the outcome with: midclt call --request-id {id_} test.slow ...",
    ]


async def test_a_request_id_that_is_no_uuid_is_a_wrong_command_line(world: World) -> None:
    status, _, err = await world.midclt("call", "--request-id", "17", "test.echo")
    assert status == 2
    assert "17 is no UUID" in err


async def test_of_two_controllers_the_one_that_answers_is_asked(world: World, tmp_path: Path) -> None:
    world.uri, there = f"ws+unix://{tmp_path}/nobody.sock", world.uri
    assert await world.midclt("-u", there, "ping") == (0, "pong\n", "")


async def test_ping_answers_pong(world: World) -> None:
    assert await world.midclt("ping") == (0, "pong\n", "")


@pytest.mark.parametrize(
    ("argument", "printed", "as_json"),
    [
        ("word", "word\n", '"word"\n'),
        ("12", "12\n", "12\n"),
        ("true", "True\n", "true\n"),
        ("null", "null\n", "null\n"),
        ('{"a": [1, "x"]}', '{"a":[1,"x"]}\n', '{"a":[1,"x"]}\n'),
    ],
)
async def test_results_are_printed_as_scripts_expect_them(
    world: World, argument: str, printed: str, as_json: str
) -> None:
    plain, with_json = await asyncio.gather(
        world.midclt("call", "test.echo", argument), world.midclt("call", "--json", "test.echo", argument)
    )
    assert (plain, with_json) == ((0, printed, ""), (0, as_json, ""))


async def test_a_dash_reads_the_argument_from_stdin(world: World) -> None:
    assert await world.midclt("call", "test.echo", "-", stdin=b'{"a": 1}\n') == (0, '{"a":1}\n', "")


async def test_faults_of_the_input_stand_one_on_a_line_and_the_status_is_1(world: World) -> None:
    status, out, err = await world.midclt("call", "test.number", "x", "y")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "[EINVAL] n: must be a whole number, not a string",
        "[EINVAL] m: must be a whole number, not a string",
    ]


async def test_a_job_is_awaited_and_its_progress_stands_on_stderr_one_line_a_change(world: World) -> None:
    status, out, err = await world.midclt("call", "-j", "test.job", "well")
    assert (status, out) == (0, '{"how":"well"}\n')
    assert err.splitlines() == ["  0 % waiting", "  0 % running", " 50 % half", "100 % half"]
    assert (await world.midclt("call", "-j", "-jp", "description", "test.job", "well"))[2] == err


async def test_a_job_that_fails_is_status_1_with_the_faults(world: World) -> None:
    status, out, err = await world.midclt("call", "-j", "test.job", "refused")
    assert (status, out, err.splitlines()[-1]) == (1, "", "[EINVAL] how: is wrong")


async def test_a_job_is_awaited_as_long_as_was_said_and_asked_for_again_under_its_id(world: World) -> None:
    status, out, err = await world.midclt("-t", "1", "call", "-j", "test.until")
    assert (status, out) == (1, "")
    unknown, hint = err.splitlines()[-2:]
    assert unknown.startswith("[ETIMEDOUT] The outcome of request ")
    asked = re.fullmatch(r"ask again .* with: midclt (call -j --request-id [0-9a-f-]{36} test.until) \.\.\.", hint)
    assert asked is not None
    world.go.set()
    assert (await world.midclt(*asked[1].split()))[:2] == (0, "gone\n")
    jobs = json.loads((await world.midclt("call", "core.get_jobs", '[["method", "=", "test.until"]]'))[1])
    assert len(jobs) == 1


async def test_the_id_of_a_job_is_what_the_command_line_says(world: World) -> None:
    id_ = "0d9b7a52-6a58-4a52-8e9a-b2d3f6d6f0aa"
    once, again = [await world.midclt("call", "-j", "--request-id", id_, "test.job", "well") for _ in range(2)]
    assert once[:2] == again[:2] == (0, '{"how":"well"}\n')
    jobs = json.loads((await world.midclt("call", "core.get_jobs", '[["method", "=", "test.job"]]'))[1])
    assert [job["message_ids"] for job in jobs] == [[id_]]


async def test_a_job_may_take_longer_than_a_call_where_nothing_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALL_TIMEOUT", "0.1")
    assert (await world.midclt("call", "-j", "test.job", "well"))[:2] == (0, '{"how":"well"}\n')


async def test_a_timeout_in_the_environment_that_is_none_is_a_wrong_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALL_TIMEOUT", "never")
    status, _, err = await world.midclt("ping")
    assert status == 2
    assert "CALL_TIMEOUT" in err


async def test_the_progress_of_a_job_is_a_bar_on_a_terminal(world: World) -> None:
    mine, its = os.openpty()
    argv = [sys.executable, "-m", "middlewared.midclt", "-u", world.uri, "call", "-j", "test.job", "well"]
    pipe = subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=its, env={**os.environ, "TERM": "xterm"})
    os.close(its)
    out, _ = await asyncio.wait_for(child.communicate(), WAIT_S)
    shown = b""
    with suppress(OSError):  # The end of a terminal that nobody has open any longer.
        while piece := os.read(mine, 65536):
            shown += piece
    os.close(mine)
    assert (child.returncode, out) == (0, b'{"how":"well"}\n')
    assert b"half" in shown
    assert "━".encode() in shown


async def test_what_is_no_job_is_answered_as_any_call(world: World) -> None:
    assert await world.midclt("call", "-j", "test.echo", "word") == (0, "word\n", "")


async def test_a_failed_login_is_status_1(world: World) -> None:
    status, out, err = await world.midclt("-U", "root", "-P", "wrong", "call", "auth.me")
    assert (status, out) == (1, "")
    assert "wrong name or password" in err


async def test_an_unknown_method_is_status_1_and_quiet_when_asked(world: World) -> None:
    loud, quiet = await asyncio.gather(world.midclt("call", "no.such"), world.midclt("-q", "call", "no.such"))
    assert loud == (1, "", "Method does not exist\n")
    assert quiet == (1, "", "")


async def test_nobody_there_is_one_line_for_every_command(world: World) -> None:
    await world.server.stop()
    for words in (["ping"], ["call", "core.ping"], ["subscribe", "user"]):
        status, out, err = await world.midclt(*words)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert "No such file" in err or "refused" in err


async def test_a_wrong_command_line_is_status_2(world: World) -> None:
    status, _, err = await world.midclt("-t", "never", "ping")
    assert status == 2
    assert "never" in err


async def test_notifications_are_printed_one_on_a_line(world: World) -> None:
    assert isinstance(world.bus, Bus)
    child = await world.spawn("subscribe", "user", "-n", "2")
    done = asyncio.create_task(child.communicate())
    async with asyncio.timeout(WAIT_S):
        while not done.done():
            world.bus.publish("user")
            await asyncio.wait([done], timeout=0.02)
    out, err = done.result()
    assert (child.returncode, err) == (0, b"")
    lines = out.decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"msg": "changed", "collection": "user", "seq": 0}] * 2


async def test_a_subscription_begins_after_the_record_that_is_named(world: World) -> None:
    for _ in range(5):
        world.log.append("user.administrator.set_up")
    status, out, err = await world.midclt("subscribe", "user", "--since", "2", "--resume", "-n", "3")
    assert (status, err) == (0, "")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [3, 4, 5]


async def test_a_beginning_that_is_not_in_the_log_is_status_1(world: World) -> None:
    status, out, err = await world.midclt("subscribe", "user", "--since", "7")
    assert (status, out) == (1, "")
    assert err == "[ERANGE] options.since: is beyond 0, the last that is applied here\n"


async def test_notifications_that_do_not_come_in_time_are_status_1(world: World) -> None:
    status, out, err = await world.midclt("subscribe", "user", "-t", "0.1")
    assert (status, out, err) == (1, "", "[ETIMEDOUT] 0 notifications came within 0.1 s\n")


async def test_the_shell_can_complete_methods(world: World) -> None:
    status, out, _ = await world.midclt("completion", "methods")
    assert status == 0
    assert "test.echo" in out.splitlines()


def test_a_call_loads_no_heavy_library() -> None:
    heavy = ("aiohttp", "sqlalchemy", "jsonschema", "rich", "cryptography")
    code = f"import sys, middlewared.midclt; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=WAIT_S) == "[]\n"
