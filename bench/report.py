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


def beside_floor(what: str, ours_us: Sequence[float], floor_us: Sequence[float]) -> Figure:
    """Latencies that were measured in turns with bench.floor's."""
    p50, p99 = (_at(ours_us, q) / _at(floor_us, q) for q in (50, 99))
    return Figure(
        what=what,
        runs=len(ours_us),
        said=f"p50 {_at(ours_us, 50):.0f} us = {p50:.2f} x two SQLite commits ({_at(floor_us, 50):.0f} us);"
        f" p99 {_at(ours_us, 99):.0f} us = {p99:.2f} x ({_at(floor_us, 99):.0f} us)",
        values={"ours_us": ours_us, "floor_us": floor_us, "p50": p50, "p99": p99},
    )


def _at(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


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
