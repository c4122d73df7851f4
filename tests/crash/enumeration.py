"""Every crash of a recorded run, judged."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from middlewared.kernel.errors import LogDamaged, MiddlewareError
from tests.crash.judge import Wrong, acked, judge
from tests.crash.rebuild import Crash, crashes
from tests.crash.recorded import Life, Recorded


@contextmanager
def fast_directory() -> Iterator[Path]:
    """In memory where that is possible: thousands of directories are opened, and none of them must survive."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


class Report:
    """points: crashes that were opened. images: different directories among them. wrong: what broke, and where."""

    def __init__(self) -> None:
        self.points = self.images = 0
        self.lost = self.unverified = 0
        self.wrong: list[str] = []

    def add(self, other: Report) -> None:
        self.points += other.points
        self.images += other.images
        self.lost += other.lost
        self.unverified += other.unverified
        self.wrong += other.wrong

    def blame(self, crash: Crash, error: Exception) -> None:
        self.wrong.append(f"{crash}: {error!r}")
        if isinstance(error, LogDamaged):
            self.unverified += 1
        else:
            self.lost += 1

    def __str__(self) -> str:
        return (
            f"{self.points} points opened ({self.images} different directories); "
            f"answered records lost or other promises broken: {self.lost}; logs that do not verify: {self.unverified}"
        )


def judge_all(name: str, run: Recorded | Life, *, seed: int = 0, draws: int = 1, every: int = 1) -> Report:
    """Open what each crash of `run` leaves. Equal directories of which the same was promised are opened once."""
    report = Report()
    seen: set[tuple[bytes, int, str]] = set()
    with fast_directory() as top:
        for crash in crashes(run.base, run.root, run.trace, seed=seed, draws=draws, every=every):
            report.points += 1
            key = (crash.image.digest, acked(crash.said), crash.said[-1] if crash.said else "")
            if key in seen:
                continue
            seen.add(key)
            report.images += 1
            data = top / "data"
            crash.image.write(data)
            try:
                judge(name, data, crash.said)
            except (Wrong, MiddlewareError, OSError) as e:
                report.blame(crash, e)
            shutil.rmtree(data)
    return report
