"""Writes under random kills, frost, power cuts and cut cables, in a real lab, held against the logs afterwards.

    python -m tests.campaign [--seed N] [--writes 100000] [--minutes 60] [--dir DIR]

Needs root: a lab with its namespaces. The seed gives the faults, in their order and with their lengths; a run with the
same seed meets them again (not to the millisecond: the machines are real). It ends with one line for each of what
history.py looks for, and exit status 1 when any is not 0, or when the pair did not become whole after an episode.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from middlewared.client import Client
from middlewared.kernel.errors import CallFailed, MiddlewareError, OutcomeUnknown
from middlewared.kernel.event import Record
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.store import quarantine
from middlewared.store.reader import LogReader
from middlewared.store.verify import verify
from tests.campaign import schedule
from tests.campaign.history import Level, Verdict, Write, check

WRITERS = 8
CALL_S = 30.0
_BATCH = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which faults, in which order")
    parser.add_argument("--writes", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="the writes are spread over this time")
    parser.add_argument("--dir", type=Path, help="the lab's directory; kept afterwards (default: a temporary one)")
    args = parser.parse_args()
    directory = args.dir or Path(tempfile.mkdtemp(prefix="mwc-", dir="/tmp"))
    pair = Pair(directory)
    campaign = Campaign(pair, args.seed, args.writes, args.minutes * 60)
    try:
        pair.up()
        asyncio.run(campaign.run())
        verdict = campaign.verdict()
    finally:
        pair.down(wipe=args.dir is None)
        if args.dir is None:
            shutil.rmtree(directory, ignore_errors=True)
    campaign.report(verdict)
    print(f"again: python -m tests.campaign --seed {args.seed} --writes {args.writes} --minutes {args.minutes:g}")
    return 0 if verdict.clean and campaign.broken is None else 1


class Campaign:
    """broken: why the faults ended early; None where they did not."""

    def __init__(self, pair: Pair, seed: int, writes: int, seconds: float) -> None:
        self._pair = pair
        self._seed = seed
        self._wanted = writes
        self._pause_s = seconds * WRITERS / writes
        self._writes: list[Write] = []
        self._faults: Counter[str] = Counter()
        self._recovery_s: list[float] = []
        self._over = asyncio.Event()
        self.broken: str | None = None

    async def run(self) -> None:
        """Write until there are enough writes; faults all the while."""
        self._mark = f"{time.time_ns():x}"
        begin = time.monotonic()
        faults = asyncio.create_task(asyncio.to_thread(self._fail))
        await asyncio.gather(*(self._write_on(number) for number in range(WRITERS)))
        self._over.set()
        await faults
        self._took_s = time.monotonic() - begin
        if self.broken is None:
            await asyncio.to_thread(self._pair.make_whole)

    # --- faults ---

    def _fail(self) -> None:
        begin = time.monotonic()
        for number, episode in enumerate(schedule.episodes(self._seed)):
            if self._over.is_set():
                return
            for fault in episode.faults:
                self._faults[schedule.name(fault)] += 1
                self._do(fault)
                time.sleep(episode.gap_s)
            time.sleep(episode.held_s)
            healed = time.monotonic()
            try:
                self._pair.make_whole()
            except MiddlewareError as e:
                self.broken = f"episode {number}, {episode}: {e}"
                return
            self._recovery_s.append(time.monotonic() - healed)
            if number % 20 == 19:
                print(
                    f"{time.monotonic() - begin:6.0f} s  {number + 1} episodes, {len(self._writes)} writes", flush=True
                )
            time.sleep(episode.pause_s)

    def _do(self, fault: schedule.Fault) -> None:
        """A controller that is off, or a daemon that is down at this moment, cannot be hit: nothing is done then."""
        try:
            match fault:
                case schedule.Kill():
                    self._pair.kill(fault.node, fault.daemon)
                case schedule.PowerOff():
                    self._pair.power_off(fault.node)
                case schedule.Freeze():
                    self._pair.freeze(fault.node)
                case schedule.Cut():
                    self._pair.cut(fault.link, way=fault.way)
        except (MiddlewareError, ProcessLookupError):
            self._faults[f"{schedule.name(fault)} (nothing to hit)"] += 1

    # --- writers ---

    async def _write_on(self, number: int) -> None:
        chance = random.Random(self._seed * WRITERS + number)
        result = self._pair.result
        urls = [result.vip_url, *(result.nodes[node]["url"] for node in NODES)]
        async with Client(
            *urls, username=result.user, password=result.password, durability=True, patience_s=CALL_S
        ) as client:
            for count in range(self._wanted // WRITERS):
                if self.broken is not None:
                    return
                self._writes.append(await _write(client, number, f"{self._mark}-{number}-{count}.test"))
                await asyncio.sleep(chance.uniform(0, 2 * self._pause_s))

    # --- afterwards ---

    def verdict(self) -> Verdict:
        """Both controllers are off or idle by now; their files are read as they are."""
        logs: dict[str, list[Record]] = {node: _whole_log(self._pair.layout.machine(node) / "log.db") for node in NODES}
        aside = [
            record
            for node in NODES
            for file in sorted((self._pair.layout.machine(node) / "quarantine").glob("*.log"))
            for record in quarantine.read(file)
        ]
        for node in NODES:
            verify(self._pair.layout.machine(node) / "log.db")
        verdict = check(self._writes, logs, aside)
        digests = {self._pair.sync(node).state_digest for node in NODES} if self.broken is None else set()
        if len(digests) > 1:
            extra = (*verdict.unexplained, f"the digests of the states differ: {sorted(digests)}")
            return msgspec.structs.replace(verdict, unexplained=extra)
        return verdict

    def report(self, verdict: Verdict) -> None:
        levels = Counter(write.level for write in self._writes)
        longest_s = max((write.answered - write.sent for write in self._writes), default=0.0)
        print(f"seed {self._seed}: {len(self._writes)} writes in {self._took_s:.0f} s, {dict(sorted(levels.items()))}")
        print(f"faults: {sum(self._faults.values())}, {dict(sorted(self._faults.items()))}")
        if self._recovery_s:
            recovered = sorted(self._recovery_s)
            print(
                f"whole again after {recovered[len(recovered) // 2]:.2f} s (median), {recovered[-1]:.2f} s (longest);"
                f" longest write {longest_s:.2f} s"
            )
        for what in ("lost", "duplicated", "unexplained"):
            sentences = getattr(verdict, what)
            print(f"acked and {what}: {len(sentences)}" if what == "lost" else f"{what}: {len(sentences)}")
            for sentence in sentences[:20]:
                print(f"  {sentence}")
        if self.broken is not None:
            print(f"the pair did not become whole: {self.broken}", file=sys.stderr)


async def _write(client: Client, number: int, value: str) -> Write:
    sent = time.monotonic()
    try:
        reply = await client.request("network.configuration.update", [{"domain": value}], timeout_s=CALL_S)
    except OutcomeUnknown as e:
        return Write(client=number, value=value, level="unknown", sent=sent, answered=time.monotonic(), said=str(e))
    except CallFailed as e:
        return Write(client=number, value=value, level="refused", sent=sent, answered=time.monotonic(), said=str(e))
    except MiddlewareError as e:
        # No address answered: nothing was sent at last, but an earlier try may have been.
        return Write(client=number, value=value, level="unknown", sent=sent, answered=time.monotonic(), said=str(e))
    answered = time.monotonic()
    assert reply.meta is not None
    level: Level = "pair" if reply.meta.durability == "pair" else "single"
    return Write(client=number, value=value, level=level, sent=sent, answered=answered, seq=reply.meta.seq)


def _whole_log(path: Path) -> list[Record]:
    records: list[Record] = []
    with LogReader(path) as log:
        while batch := log.since(records[-1].seq if records else 0, _BATCH):
            records += batch
    return records


if __name__ == "__main__":
    sys.exit(main())
