"""Run a workload under record.c, and hand back what was recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.crash.rebuild import Image, image_of
from tests.crash.workloads import base_of, prepare

SOURCE = Path(__file__).with_name("record.c")
TOP = SOURCE.parents[2]


def build(directory: Path) -> Path:
    """Compile record.c. Raises CalledProcessError with the compiler's words on stderr."""
    made = directory / "record.so"
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", made, SOURCE, "-lpthread"], check=True, timeout=60)
    return made


class Lives:
    """Many lives of tests.crash.faults, under the shim."""

    def __init__(self, shim: Path, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._mark = directory / "mark"
        self._mark.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.faults", str(self._mark)],
            env={**os.environ, "LD_PRELOAD": str(shim), "CRASH_MARK": str(self._mark), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def live(self, name: str, fault: str) -> Life:
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        base = base_of(name)
        base.write(directory / "data")
        self._mark.write_bytes(b"")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{directory} {name} {fault}\n")
        self._process.stdin.flush()
        seen = int(self._process.stdout.readline())
        return Life(name, seen, tuple(self._mark.read_text().splitlines()), directory, base)

    def close(self) -> None:
        self._process.communicate(timeout=30)


class Life(NamedTuple):
    """seen: how many calls the fault has counted. said: its words. base: what there was before."""

    name: str
    seen: int
    said: tuple[str, ...]
    directory: Path
    base: Image

    @property
    def last(self) -> str:
        return self.said[-1] if self.said else ""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def root(self) -> str:
        return str(self.data)

    @property
    def trace(self) -> Path:
        return self.directory / "trace"


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
