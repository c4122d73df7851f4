"""`python -m middlewared.sim`: live through seeds; exit 1 when a promise was broken, with the command to replay it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool

from middlewared.sim.seeds import Tally, live, replay
from middlewared.sim.world import Outcome, World

CHUNK = 8


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m middlewared.sim", description="The pair under simulated faults")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="print what happened in it, line by line")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return _one(arguments.seed, trace=arguments.trace)
    return _many(range(arguments.first, arguments.first + arguments.seeds), arguments.processes)


def _one(seed: int, *, trace: bool) -> int:
    outcome = World(seed, keep_trace=trace).run()
    _say(*outcome.lines)
    _report(outcome)
    _say(f"seed {seed}: {outcome.virtual_s:.1f} virtual seconds, trace {outcome.sha256}")
    return 1 if outcome.violations else 0


def _many(seeds: Sequence[int], processes: int) -> int:
    tally, began = Tally(), time.monotonic()
    for outcome in _outcomes(seeds, processes):
        tally.add(outcome)
        _report(outcome)
    _say(*tally.lines(time.monotonic() - began))
    return 1 if tally.failed else 0


def _outcomes(seeds: Sequence[int], processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(live, seeds)
        return
    with Pool(processes) as pool:
        yield from pool.imap(live, seeds, CHUNK)


def _report(outcome: Outcome) -> None:
    for violation in outcome.violations:
        _say(f"seed {outcome.seed}: {violation.checker} at {violation.at_s:.3f} s: {violation.why}")
    if outcome.violations:
        _say(f"  replay: {replay(outcome.seed)}")


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
