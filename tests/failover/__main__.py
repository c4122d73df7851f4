"""Power cuts of the active controller under a writer, or frost; what was lost, and how long each step took.

    python -m tests.failover [cut|freeze] [--times 20] [--seed N] [--dir DIR]

Needs root and zfs-fuse: a lab with a mirrored pool. The controllers fail in turn. It prints each round, then the
spread of every figure, and exit status 1 when anything is not as it must be: an acknowledged record lost, there twice,
a hole; a scrub that finds errors; two controllers that could write the disks at one instant; a frozen controller that
writes, acknowledges or answers for the virtual IP after it was relieved.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from middlewared.kernel.errors import MiddlewareError
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.watch import Watch
from tests.failover import tank
from tests.failover.importers import Importers
from tests.failover.rounds import Fault, Round, Rounds
from tests.failover.writer import Writer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__.splitlines()[0])
    parser.add_argument("fault", nargs="?", choices=("cut", "freeze"), default="cut")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="at which moments")
    parser.add_argument("--dir", type=Path, help="the lab's directory; kept afterwards (default: a temporary one)")
    args = parser.parse_args()
    directory = args.dir or Path(tempfile.mkdtemp(prefix="mwf-", dir="/tmp"))
    pair = Pair(directory)
    try:
        pair.up()
        clean = campaign(pair, args.fault, args.times, args.seed)
    finally:
        pair.down(wipe=args.dir is None)
        if args.dir is None:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"again: python -m tests.failover {args.fault} --times {args.times} --seed {args.seed}")
    return 0 if clean else 1


def campaign(pair: Pair, fault: Fault, times: int, seed: int) -> bool:
    """All rounds, and what they come to. Whether everything was as it must be."""
    pool = tank.make(pair)
    done: list[Round] = []
    broken = ""
    watching = Watch(pair) if fault == "freeze" else contextlib.nullcontext()
    with Importers(pair, tank.DISKS) as importers, Writer(pair) as writer, watching as watch:
        rounds = Rounds(pair, pool, writer, watch, random.Random(seed))
        try:
            for number in range(times):
                done.append(rounds.one(NODES[number % 2], fault))
                _say(number, done[-1])
        except MiddlewareError as e:
            broken = str(e)
        told, samples, most = len(writer.told), importers.samples, importers.most
        count = tank.imports(pair, NODES[times % 2]) if not broken else 0
    wrong = sum(len(one.wrong) for one in done)
    print(f"\n{len(done)} rounds ({fault}), {told} records acknowledged; what must not be: {wrong}")
    print(
        f"controllers that could write at one instant: {most} at most, in {samples} looks; imports by the pool: {count}"
    )
    for name, figures in _figures(done).items():
        print(f"  {name:<28} {_spread(figures)}")
    if broken:
        print(f"broken off: {broken}", file=sys.stderr)
    return not broken and not wrong and most <= 1


def _say(number: int, one: Round) -> None:
    steps = " ".join(f"{name} {ms:.0f}" for name, ms in one.steps.items())
    print(f"{number + 1:3}. {one.node}: {one.after_ms:6.0f} ms ({steps}); whole after {one.back_s:.1f} s", flush=True)
    for sentence in one.wrong:
        print(f"     WRONG: {sentence}", flush=True)


def _figures(done: Sequence[Round]) -> dict[str, list[float]]:
    """Every figure of every round, in ms, by its name."""
    figures = {
        "command to first write": [one.after_ms for one in done],
        "last write to first write": [one.silent_ms for one in done],
        "the command itself": [one.told_ms for one in done],
    }
    for name in dict.fromkeys(name for one in done for name in one.steps):
        figures[f"step {name}"] = [one.steps[name] for one in done if name in one.steps]
    return figures


def _spread(figures: Sequence[float]) -> str:
    if not figures:
        return "none"
    return f"median {statistics.median(figures):7.0f} ms, maximum {max(figures):7.0f} ms ({len(figures)})"


if __name__ == "__main__":
    sys.exit(main())
