"""A disk without room, on two controllers with real logs: SQLite refuses to let the file grow."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from middlewared.engine.context import Committed
from middlewared.kernel.errors import CallFailed, OutcomeUnknown, OutOfSpace, PortFailed
from middlewared.kernel.event import Position, Record
from middlewared.store.log import LogStore
from tests.engine.controllers import Controller, locked, until
from tests.engine.pair import Pair, outcome

LONG = tuple(f"10.0.0.{n} host-{n}" for n in range(250))
"""More than a page, so that the file must grow."""


class Full:
    """The disk of one log, without room until `over`. tries: how often the log was opened anew meanwhile."""

    def __init__(self, controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = False
        self.tries = 0
        self._log = controller.log
        monkeypatch.setattr(controller.log, "reopen", self._reopen)
        driver = controller.log._writer.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA max_page_count = 1")

    def _reopen(self) -> Position:
        self.tries += 1
        if not self.over:
            raise OutOfSpace("open the log", "there is still no room")
        return LogStore.reopen(self._log)


async def test_an_owner_without_room_keeps_its_role_refuses_writes_and_lands_what_it_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full(pair.a, monkeypatch)
    sent = asyncio.create_task(pair.a.update(hosts=LONG))
    await until(lambda: full.tries > 1)
    assert pair.b.log.head().seq == pair.a.log.head().seq + 1
    with pytest.raises(CallFailed) as refused:
        await pair.a.update(domain="late.example")
    assert refused.value.errno == errno.ENOSPC
    assert "log.db: database or disk is full" in refused.value.reason
    assert pair.a.configuration.hosts == ()
    full.over = True
    assert isinstance(await outcome(sent), Committed)
    await pair.a.update(domain="late.example")
    await pair.equal()
    assert pair.a.replica.term == 1
    assert pair.a.fatal == pair.b.fatal == []


async def test_who_waits_for_an_owner_without_room_is_told_that_the_outcome_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Pair(tmp_path, deadline_s=0.5) as pair:
        await pair.in_sync()
        full = Full(pair.a, monkeypatch)
        assert isinstance(await outcome(asyncio.create_task(pair.a.update(hosts=LONG))), OutcomeUnknown)
        full.over = True
        await until(lambda: pair.a.configuration.hosts == LONG)
        await pair.equal()


async def test_a_standby_without_room_is_left_out_and_comes_back_by_itself(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full(pair.b, monkeypatch)
    done = await pair.a.update(hosts=LONG)
    assert done.durability == "single"
    assert pair.said_in_sync() == ("A",)
    for n in range(5):
        await pair.a.update(domain=f"d{n}.example")
    assert pair.b.replicator.no_room() is not None
    full.over = True
    await until(lambda: pair.said_in_sync() == ("A", "B"))
    await pair.equal()
    assert pair.b.replicator.no_room() is None
    assert pair.b.fatal == []


async def test_a_log_that_cannot_be_opened_again_ends_the_process(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full(pair.a, monkeypatch)

    def broken() -> Position:
        raise PortFailed("open the log", "Input/output error")

    monkeypatch.setattr(pair.a.log, "reopen", broken)
    asyncio.create_task(pair.a.update(hosts=LONG)).add_done_callback(lambda task: task.exception())
    await until(lambda: pair.a.fatal == ["the log cannot be written: open the log: Input/output error"])
    assert full.tries == 0


async def test_below_the_floor_no_command_is_taken_and_reads_go_on(pair: Pair) -> None:
    why: list[str] = ["/data has 3 MiB of free space"]
    pair.a.replicator._room = lambda: why[0] if why else None
    with pytest.raises(CallFailed, match="/data has 3 MiB"):
        await pair.a.update(domain="late.example")
    assert pair.a.configuration.domain == "local"
    why.clear()
    await pair.a.update(domain="late.example")


async def test_a_disk_that_stalls_holds_commits_up_and_moves_no_role(tmp_path: Path) -> None:
    """The file is locked by another, which is what a stalled fsync is to everybody but the kernel."""
    async with Pair(tmp_path, deadline_s=0.5) as pair:
        await pair.in_sync()
        with locked(pair.a.directory / "log.db"):
            told = await outcome(asyncio.create_task(pair.a.update(domain="slow.example")))
            assert isinstance(told, OutcomeUnknown)
            assert isinstance(told.extra, dict)
            assert told.extra["request_id"]
            assert pair.a.configuration.domain == "local"
        await until(lambda: pair.a.configuration.domain == "slow.example")
        await pair.equal()
        assert pair.a.replica.term == 1
        assert pair.a.fatal == []


async def test_groups_that_wait_for_the_disk_become_one_commit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []

    def append(group: Sequence[Record]) -> Position:
        commits.append(len(group))
        return LogStore.append(pair.b.log, group)

    monkeypatch.setattr(pair.b.log, "append", append)
    pair.disk.writable = False
    with locked(pair.b.directory / "log.db"):
        writes = []
        for n in range(6):
            writes.append(asyncio.create_task(pair.a.update(domain=f"{n}.example")))
            await until(lambda n=n: pair.a.log.head().seq == n + 2)  # type: ignore[misc]
    pair.disk.writable = True
    await asyncio.gather(*writes)
    assert sum(commits) == 6
    assert len(commits) <= 2, commits
    await pair.equal()
