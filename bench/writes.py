"""Eight clients write through the virtual IP while the active controller loses power: what was answered is kept.

The history check: every write that was answered, at level pair or single, is in the log of the controller that took
over, before the other returns, once; afterwards both logs and both digests are equal. A write whose answer is lost is
asked for again under its id, so that no outcome stays unknown.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter

import msgspec

from bench.report import Figure
from middlewared.client import Client
from middlewared.kernel.errors import OutcomeUnknown
from middlewared.lab.driver import Pair
from middlewared.store.reader import LogReader

CLIENTS = 8
CALL_S = 30.0
TAKEOVER_S = 15.0
OFF_AFTER = 0.4
"""Of the writes, when A loses power."""


class Write(msgspec.Struct, frozen=True):
    """One write as its client saw it. level: pair, single or unknown. ended: seconds, monotonic."""

    client: int
    domain: str
    level: str
    took_s: float
    ended: float


def measure(pair: Pair, runs: int) -> list[Figure]:
    """runs: how many writes there are in all."""
    pair.make_whole("A")
    writes, off_at = asyncio.run(_write_all(pair, runs))
    found = Counter(_domains(pair, "B"))
    kept, twice = set(found), sum(found[w.domain] > 1 for w in writes)
    lost = {level: sum(w.level == level and w.domain not in kept for w in writes) for level in ("pair", "single")}
    pair.power_on("A")
    back_s = pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), TAKEOVER_S)
    equal = pair.sync("A").state_digest == pair.sync("B").state_digest and _records(pair, "A") == _records(pair, "B")
    went_on = {client: sum(w.ended > off_at and w.level != "unknown" for w in mine) for client, mine in _by(writes)}
    counts = {level: sum(w.level == level for w in writes) for level in ("pair", "single", "unknown")}
    stall_s = max(w.took_s for w in writes)
    return [
        Figure(
            what=f"power A off under {CLIENTS} writers",
            runs=len(writes),
            said=f"answered pair {counts['pair']} (lost {lost['pair']}), single {counts['single']} (lost"
            f" {lost['single']}), unknown {counts['unknown']}, twice {twice}; clients that went on"
            f" {sum(map(bool, went_on.values()))} of {CLIENTS};"
            f" longest write {stall_s:.2f} s; equal after A's return {equal} ({back_s:.1f} s)",
            values={
                "counts": counts,
                "lost": lost,
                "twice": twice,
                "went_on": went_on,
                "equal": equal,
                "longest_s": stall_s,
            },
        )
    ]


async def _write_all(pair: Pair, total: int) -> tuple[list[Write], float]:
    writes: list[Write] = []
    enough, all_here = asyncio.Event(), asyncio.Barrier(CLIENTS)
    mark = f"{time.time_ns():x}"

    async def write(number: int) -> None:
        async with Client(
            pair.result.vip_url,
            username=pair.result.user,
            password=pair.result.password,
            durability=True,
            patience_s=CALL_S,
        ) as client:
            await client.call("auth.me")
            await all_here.wait()
            for count in range(total // CLIENTS):
                writes.append(await _write(client, number, f"{mark}-{number}-{count}.test"))
                if len(writes) >= total * OFF_AFTER:
                    enough.set()

    writers = [asyncio.create_task(write(number)) for number in range(CLIENTS)]
    await enough.wait()
    await asyncio.to_thread(pair.power_off, "A")
    off_at = time.monotonic()
    await asyncio.gather(*writers)
    return writes, off_at


async def _write(client: Client, number: int, domain: str) -> Write:
    start, level = time.monotonic(), "unknown"
    try:
        reply = await client.request("network.configuration.update", [{"domain": domain}], timeout_s=CALL_S)
        level = str(reply.meta.durability) if reply.meta is not None else "none"
    except OutcomeUnknown:
        pass
    end = time.monotonic()
    return Write(number, domain, level, end - start, end)


def _by(writes: list[Write]) -> list[tuple[int, list[Write]]]:
    ordered = sorted(writes, key=lambda w: w.client)
    return [(client, list(mine)) for client, mine in itertools.groupby(ordered, key=lambda w: w.client)]


def _records(pair: Pair, node: str) -> list[object]:
    with LogReader(pair.layout.machine(node) / "log.db") as log:
        return list(log.since(0, 10_000_000))


def _domains(pair: Pair, node: str) -> list[str]:
    with LogReader(pair.layout.machine(node) / "log.db") as log:
        payloads = [json.loads(record.payload) for record in log.since(0, 10_000_000)]
    return [payload["domain"] for payload in payloads if "domain" in payload]
