"""What a bench found, as a line of a table and as JSON in bench/out/."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

OUT = Path(__file__).parent / "out"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line. said: for people. values: everything that was measured."""

    what: str
    runs: int
    said: str
    values: dict[str, object]


def spread(values: Sequence[float]) -> str:
    """Median and maximum."""
    return f"median {statistics.median(values):.0f}, max {max(values):.0f}"


def table(figures: Sequence[Figure]) -> str:
    width = max(len(figure.what) for figure in figures)
    return "\n".join(f"{figure.what:{width}}  n={figure.runs:<5} {figure.said}" for figure in figures)


def keep(name: str, figures: Sequence[Figure]) -> Path:
    """Write bench/out/NAME.json; the file."""
    OUT.mkdir(exist_ok=True)
    file = OUT / f"{name}.json"
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}
    found = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine, "figures": figures}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return file
