"""Run a workload under record.c, and hand back what was recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.crash.rebuild import Image, image_of
from tests.crash.workloads import killed, prepare

SOURCE = Path(__file__).with_name("record.c")
TOP = SOURCE.parents[2]


def build(directory: Path) -> Path:
    """Compile record.c. Raises CalledProcessError with the compiler's words on stderr."""
    made = directory / "record.so"
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", made, SOURCE, "-lpthread"], check=True, timeout=60)
    return made


class Lives:
    """Many lives of tests.crash.faults, in one process under the shim."""

    def __init__(self, shim: Path, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        mark = directory / "mark"
        mark.touch()
        self.base = killed()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.faults", str(mark)],
            env={**os.environ, "LD_PRELOAD": str(shim), "CRASH_MARK": str(mark), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def live(self, fault: str) -> Life:
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        self.base.write(directory / "data")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{directory} {fault}\n")
        self._process.stdin.flush()
        seen, _, last = self._process.stdout.readline().strip().partition(" ")
        return Life(int(seen), last, str(directory / "data"), directory / "trace", self.base)

    def close(self) -> None:
        self._process.communicate(timeout=30)


class Life(NamedTuple):
    """seen: how many calls the fault has counted. last: the last word."""

    seen: int
    last: str
    root: str
    trace: Path
    base: Image


class Recorded(NamedTuple):
    """base: what was there before; trace: what was noted; real: what lies there now; status: the exit status."""

    base: Image
    root: str
    trace: Path
    real: Image
    said: tuple[str, ...]
    status: int
    stderr: str


def record(shim: Path, name: str, directory: Path, *, fault: str = "") -> Recorded:
    """Prepare workload `name` in `directory`/data, then run it under the shim. fault: as CRASH_FAULT in record.c."""
    data, mark, trace = directory / "data", directory / "mark", directory / "trace"
    prepare(name, data)
    mark.touch()
    trace.touch()
    base = image_of(data)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "CRASH_ROOT": str(data),
        "CRASH_MARK": str(mark),
        "CRASH_TRACE": str(trace),
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"CRASH_FAULT": fault} if fault else {}),
    }
    command = [sys.executable, "-m", "tests.crash.workloads", name, str(data), str(mark)]
    ran = subprocess.run(command, check=False, env=environment, cwd=TOP, timeout=60, capture_output=True, text=True)
    said = tuple(mark.read_text().splitlines())
    return Recorded(base, str(data), trace, image_of(data), said, ran.returncode, ran.stderr)
