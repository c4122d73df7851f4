from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest
from middlewared_plugins.core import plugin as core
from middlewared_plugins.log import plugin as log

from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.upkeep import Fault, LogCheck
from middlewared.protocol.session import Session

WHOLE = {"intact": True, "records": 3, "term": 1, "hash": "00", "fault": None}
BROKEN = LogCheck(intact=False, records=2, term=0, hash="", fault=Fault(file="log.db", seq=3, what="is missing"))


class World:
    def __init__(self, *, paired: bool = True) -> None:
        self.answers, self.engine, _ = dispatcher(core, log)
        self.engine.facts_now = msgspec.structs.replace(FACTS, paired=paired)
        self.root = Session(id="s", origin="unix:0", local_root=True, new_id=lambda: "id")
        self.root.options["legacy_jobs"] = False

    async def verify(self, *params: object) -> Any:
        text = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "log.verify", "params": params})
        answer = await self.answers.answer(self.root, text, lambda: None)
        assert answer is not None
        reply = msgspec.json.decode(answer)
        return reply.get("result", reply.get("error"))


def looked(state: str, result: object = None, error: str | None = None) -> dict[str, object]:
    info = {"errno": errno.EIO} if error else None
    progress = {"percent": 10, "description": "seq 1 of 10"}
    return {"state": state, "progress": progress, "result": result, "error": error, "exc_info": info}


async def test_a_single_controller_walks_its_own_log() -> None:
    assert await World(paired=False).verify() == {"A": WHOLE}


async def test_both_logs_of_a_pair_are_walked_the_others_by_a_job_there() -> None:
    world = World()
    world.engine.peer = {"core.job_start": 8, "core.job_look": looked("SUCCESS", BROKEN)}
    assert await world.verify() == {"A": WHOLE, "B": msgspec.to_builtins(BROKEN)}
    assert world.engine.asked == [("core.job_start", "log.verify_here", [], "root"), ("core.job_look", 8)]


async def test_a_controller_that_is_away_is_named_and_its_log_is_not_called_intact() -> None:
    assert await World().verify() == {"A": WHOLE, "B": {"intact": None, "why": "The other controller is not connected"}}


async def test_a_job_that_fails_there_says_why() -> None:
    world = World()
    world.engine.peer = {"core.job_start": 8, "core.job_look": looked("FAILED", error="[EIO] cannot read it")}
    assert (await world.verify("B"))["B"] == {"intact": None, "why": "[EIO] cannot read it"}


async def test_a_log_that_cannot_be_read_here_says_why() -> None:
    world = World(paired=False)
    assert isinstance(world.engine, MemoryEngine)
    world.engine.files.verdict = CallFailed(errno.EIO, "read the log: permission denied")
    assert await world.verify() == {"A": {"intact": None, "why": "read the log: permission denied"}}


@pytest.mark.parametrize("node", ["A", "B"])
async def test_one_controller_can_be_named(node: str) -> None:
    assert list(await World().verify(node)) == [node]
