"""Every world, or each n-th: how many, how often each rule decided, and what was violated. `make worlds`."""

from __future__ import annotations

import argparse
import sys
import time

from middlewared.protocol.failover import RULES
from tests.protocol.worlds.permits import faults
from tests.protocol.worlds.safety import Judge, Violation
from tests.protocol.worlds.world import World, worlds

SHOWN = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=1, metavar="N", help="only each N-th world")
    each = parser.parse_args().each
    began, judge, found = time.monotonic(), Judge(), list[Violation | tuple[str, World]]()
    for world in worlds(each):
        found += judge.violations(world)
        found += [(row, world) for row in faults(world)]
    for number, rule in enumerate(RULES, 1):
        print(f"{number:3} {rule.name:22}{judge.hits[rule.name]:10}")
    for violation in found[:SHOWN]:
        print(violation)
    print(
        f"worlds={judge.worlds} successors={judge.successors} views={judge.views} violations={len(found)} "
        f"seconds={time.monotonic() - began:.1f}"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
