"""Every crash point of every workload, and each of its calls failing once (`make crash`); how many there were."""

from __future__ import annotations

import sys
import time
from contextlib import closing

from tests.crash.enumeration import Report, fast_directory, judge_all
from tests.crash.failing import CALLS, ERRORS, Failed, fail_each
from tests.crash.faults import LIVES
from tests.crash.recorded import Lives, build, record
from tests.crash.workloads import WORKLOADS

DRAWS = 4


def main() -> int:
    total, failures, began = Report(), Failed(), time.monotonic()
    with fast_directory() as top:
        shim = build(top)
        for name in WORKLOADS:
            report = judge_all(name, record(shim, name, top / name), draws=DRAWS)
            print(f"{name:<10} {report}", flush=True)
            total.add(report)
        (top / "lives").mkdir()
        with closing(Lives(shim, top / "lives")) as lives:
            for name in LIVES:
                failed = Failed()
                for call in CALLS:
                    for error in ERRORS:
                        failed.add(fail_each(lives, name, call, error))
                print(f"{name:<10} {failed}", flush=True)
                failures.add(failed)
    print(f"{'in all':<10} {total}")
    print(f"{'in all':<10} {failures}; {time.monotonic() - began:.0f} s")
    for sentence in total.wrong + failures.wrong:
        print(sentence)
    return 1 if total.wrong or failures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
