"""The log layer: writes durable on both controllers, beside two bare SQLite commits in parallel, in one run.

latency     one writer; rounds of ours and of the floor take turns, so that both meet the same disk
rate        64 writers at once
stall       the longest that a writer waits when the standby is killed, and when it is frozen
catch-up    a standby that is 100 000 events behind, from its line's coming up until everything is acknowledged

Each controller has a processor of its own, where there are two, and so has each side of the floor. They share one disk.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from middlewared_plugins.network.configuration import Update

from bench.floor import Floor, free_port
from bench.log_side import Follower, LogSide, make_pair
from bench.report import Figure, beside_floor
from middlewared.protocol.replication_owner import Owner, Phase
from middlewared.shell import realtime

WRITERS = 64
ROUND = 200
RATE_S = 5.0
BEHIND = 100_000
STALL_S = 3.0
WITHIN_S = 60.0


def measure(runs: int) -> list[Figure]:
    """runs: how many writes the latency is measured by."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    realtime.spare_collector()
    try:
        with tempfile.TemporaryDirectory(prefix="mwb-") as directory:
            return uvloop.run(_measure(Path(directory), runs, max(processors)))
    finally:
        os.sched_setaffinity(0, processors)


class _Bench:
    """The owner in this process, and the port on which its standby finds it."""

    def __init__(self, directory: Path) -> None:
        make_pair(directory)
        self.directory = directory
        self.port = free_port()
        self.owner = LogSide(directory, "A", self.port)
        self._count = 0

    async def begin(self) -> None:
        self.owner.own(1)
        await _until(lambda: self.side.phase is Phase.OPEN and self.owner.replica.log.committed.term == 1)

    @property
    def side(self) -> Owner:
        side = self.owner.replica.side
        assert isinstance(side, Owner)
        return side

    @property
    def whole(self) -> bool:
        """The standby holds everything, and the record says so."""
        acked = self.side.acked
        return len(self.side.synced) == 2 and acked is not None and acked == self.owner.replica.log.head

    async def write(self) -> str:
        """One update; the level at which it was answered."""
        self._count += 1
        command = Update(domain=f"{self._count}.bench.example")
        done = await self.owner.engine.execute(
            command, actor="bench", origin="127.0.0.1:1", request_id=f"{self._count:032x}"
        )
        return done.durability

    async def write_many(self, writers: int, until: Callable[[], bool]) -> None:
        async def one() -> None:
            while not until():
                await self.write()

        await asyncio.gather(*(one() for _ in range(writers)))


async def _measure(directory: Path, runs: int, over_there: int) -> list[Figure]:
    bench = _Bench(directory / "pair")
    follower = Follower(bench.directory, bench.port, over_there)
    try:
        await bench.begin()
        await _until(lambda: bench.whole)
        figures = [await _latency(bench, Floor(directory / "floor", over_there), runs), await _rate(bench)]
        for how in ("killed", "frozen"):
            figures.append(await _stall(bench, follower, how))
            if how == "killed":
                follower = Follower(bench.directory, bench.port, over_there)
            await _until(lambda: bench.whole)
        follower.kill()
        await _until(lambda: len(bench.side.synced) == 1)
        await _fall_behind(bench)
        start = time.monotonic()
        follower = Follower(bench.directory, bench.port, over_there)
        figures.append(await _catch_up(bench, start))
    finally:
        follower.kill()
        await bench.owner.close()
    return figures


async def _latency(bench: _Bench, floor: Floor, runs: int) -> Figure:
    ours_us: list[float] = []
    floor_us: list[float] = []
    try:
        for _ in range(max(2, runs // ROUND)):
            for _ in range(ROUND):
                begin = time.perf_counter_ns()
                level = await bench.write()
                ours_us.append((time.perf_counter_ns() - begin) / 1000)
                if level != "pair":
                    raise SystemExit(f"a write of the bench was answered at level {level}")
            for _ in range(ROUND):
                begin = time.perf_counter_ns()
                floor.write()
                floor_us.append((time.perf_counter_ns() - begin) / 1000)
    finally:
        floor.close()
    return beside_floor("config write at level pair, log layer", ours_us, floor_us)


async def _rate(bench: _Bench) -> Figure:
    before, begin = bench.owner.log.head().seq, time.monotonic()
    end = begin + RATE_S
    await bench.write_many(WRITERS, lambda: time.monotonic() >= end)
    rate = (bench.owner.log.head().seq - before) / (time.monotonic() - begin)
    return Figure(
        what=f"durable on both, {WRITERS} writers, log layer",
        runs=1,
        said=f"{rate:.0f} events/s",
        values={"events_per_s": rate},
    )


async def _stall(bench: _Bench, follower: Follower, how: str) -> Figure:
    longest_ms, levels = 0.0, set()
    end = time.monotonic() + STALL_S
    hit = asyncio.get_running_loop().call_later(STALL_S / 3, follower.kill if how == "killed" else follower.freeze)
    while time.monotonic() < end:
        begin = time.perf_counter()
        levels.add(await bench.write())
        longest_ms = max(longest_ms, (time.perf_counter() - begin) * 1000)
    hit.cancel()
    if how == "frozen":
        follower.thaw()
    if levels != {"pair", "single"}:
        raise SystemExit(f"the standby was {how}, and writes were answered at {sorted(levels)}")
    return Figure(
        what=f"write stall, standby {how}",
        runs=1,
        said=f"longest write {longest_ms:.0f} ms",
        values={"longest_ms": longest_ms},
    )


async def _fall_behind(bench: _Bench) -> None:
    last = bench.owner.log.head().seq + BEHIND
    await bench.write_many(WRITERS, lambda: bench.owner.replica.log.tip.seq >= last)


async def _catch_up(bench: _Bench, start: float) -> Figure:
    head = bench.owner.log.head().seq
    await _until(lambda: bench.side.acked is not None)
    assert bench.side.acked is not None
    behind, up = head - bench.side.acked.seq, time.monotonic()
    await _until(lambda: bench.whole)
    took_s, whole_s = time.monotonic() - up, time.monotonic() - start
    return Figure(
        what=f"catch-up of {BEHIND} events",
        runs=1,
        said=f"{took_s:.2f} s from the line's coming up, {behind / took_s:.0f} events/s; {whole_s:.2f} s from exec",
        values={"took_s": took_s, "behind": behind, "from_exec_s": whole_s},
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.002)
