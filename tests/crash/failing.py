"""Each call of a life fails once: how the life ends, and whether what it leaves opens and holds what was answered."""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterator

from middlewared.kernel.errors import MiddlewareError
from tests.crash.enumeration import judge_all
from tests.crash.judge import Wrong, judge
from tests.crash.recorded import Life, Lives

CALLS = ("write", "sync", "truncate", "open", "rename", "unlink", "mkdir")
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
REASONS = ("PortFailed", "OutOfSpace", "BadBootFile")
"""With these a workload may end; a call that fails is no sign of damage, and no error of the system's own gets out."""


class Failed:
    """endings: how many lives ended how. crashes: directories opened that a crash would have left on the way."""

    def __init__(self) -> None:
        self.endings = Counter[str]()
        self.crashes = 0
        self.wrong: list[str] = []

    def add(self, other: Failed) -> None:
        self.endings.update(other.endings)
        self.crashes += other.crashes
        self.wrong += other.wrong

    def __str__(self) -> str:
        ways = ", ".join(f"{way} {count}" for way, count in sorted(self.endings.items()))
        calls = f"{self.endings.total()} calls failed once ({ways})"
        return f"{calls}, {self.crashes} crashes on the way: {len(self.wrong)} wrong"


def each_call(lives: Lives, name: str, call: str, fault: str, every: int, first: int = 1) -> Iterator[Life]:
    """A life for each call that there is to fail; what it left is removed after it."""
    nth = first
    while (life := lives.live(name, f"call={call},nth={nth},{fault}")).seen >= nth:
        yield life
        shutil.rmtree(life.directory)
        nth += every


def fail_each(
    lives: Lives,
    name: str,
    call: str,
    error: str,
    *,
    every: int = 1,
    first: int = 1,
    judged: int = 6,
    crashes: int = 300,
) -> Failed:
    """Fail each so many-th call of life `name`; open what it leaves.

    judged: of each so many-th life each `crashes`-th crash on the way is opened, too.
    """
    failed = Failed()
    for count, life in enumerate(each_call(lives, name, call, f"errno={ERRORS[error]}", every, first), 1):
        where = f"{name}: {call} {first + (count - 1) * every} {error}"
        ending = ending_of(life)
        failed.endings[ending] += 1
        if ending not in ("done", *(REASONS if name != "faults" else ())):
            failed.wrong.append(f"{where}: {life.last}")
        if count % judged == 0:
            report = judge_all(name, life, seed=count, every=crashes)
            failed.crashes += report.points
            failed.wrong += [f"{where}: {wrong}" for wrong in report.wrong]
        try:
            judge(name, life.data, life.said)
        except (Wrong, MiddlewareError, OSError) as e:
            failed.wrong.append(f"{where}: what it left: {e!r}")
    return failed


def ending_of(life: Life) -> str:
    """The name of the error; "done" also for a workload that ends in the middle of its words."""
    how, _, why = life.last.partition(": ")
    return why.partition(":")[0] if how == "ended" else how if how in ("escaped", "damaged") else "done"
