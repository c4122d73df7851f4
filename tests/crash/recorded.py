"""Run a workload under record.c, and hand back what was recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.crash.rebuild import Image, image_of
from tests.crash.workloads import prepare

SOURCE = Path(__file__).with_name("record.c")
TOP = SOURCE.parents[2]


def build(directory: Path) -> Path:
    """Compile record.c. Raises CalledProcessError with the compiler's words on stderr."""
    made = directory / "record.so"
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", made, SOURCE, "-lpthread"], check=True, timeout=60)
    return made


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
