"""Every crash point of every workload (`make crash`), and how many there were."""

from __future__ import annotations

import sys
import time

from tests.crash.enumeration import Report, fast_directory, judge_all
from tests.crash.recorded import build, record
from tests.crash.workloads import WORKLOADS

DRAWS = 4


def main() -> int:
    total, began = Report(), time.monotonic()
    with fast_directory() as top:
        shim = build(top)
        for name in WORKLOADS:
            report = judge_all(name, record(shim, name, top / name), draws=DRAWS)
            print(f"{name:<10} {report}", flush=True)
            total.add(report)
    print(f"{'in all':<10} {total}; {time.monotonic() - began:.0f} s")
    for sentence in total.wrong:
        print(sentence)
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
