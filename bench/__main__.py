"""`python -m bench [NAME] [--runs N]`: measure, print a table, keep JSON in bench/out/.

Without a name: all of them with small counts. vip, vip-peers, writes, restarts, api-writes and carp-flood need a lab,
which is brought up and ended here; the others run on the loopback. postgres needs Debian's postgresql-15, vip-peers
keepalived and ucarp (`make bench` installs them).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import api_writes, carp_flood, log, million, postgres, report, restarts, vip, vip_peers, writes
from middlewared.kernel.errors import MiddlewareError
from middlewared.lab.driver import Pair

# name -> what measures, how many runs in full, how many where all are run
ON_A_LAB: dict[str, tuple[Callable[[Pair, int], list[report.Figure]], int, int]] = {
    "vip": (vip.measure, 15, 3),
    "vip-peers": (vip_peers.measure, 15, 1),
    "writes": (writes.measure, 1000, 200),
    "restarts": (restarts.measure, 20, 3),
    "carp-flood": (carp_flood.measure, 1_000_000, 100_000),
    "api-writes": (api_writes.measure, 5000, 1000),
}
ALONE: dict[str, tuple[Callable[[int], list[report.Figure]], int, int]] = {
    "log": (log.measure, 5000, 1000),
    "postgres": (postgres.measure, 5000, 1000),
    "million": (million.measure, 1_000_000, 50_000),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=[*ON_A_LAB, *ALONE, "api"])
    parser.add_argument("--runs", type=int, help="how many runs; for writes: how many writes")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that labs are ended
    try:
        figures = alone(args.name, args.runs)
        figures += on_a_lab(args.name, args.runs) if args.name in (None, *ON_A_LAB) else []
    except MiddlewareError as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    if figures:
        print(report.table(figures))
    return api() if args.name in (None, "api") else 0


def alone(name: str | None, runs: int | None) -> list[report.Figure]:
    figures = []
    for each, (measure, full, small) in ALONE.items():
        if name in (None, each):
            found = measure(runs or (full if name else small))
            report.keep(each, found)
            figures += found
    return figures


def on_a_lab(name: str | None, runs: int | None) -> list[report.Figure]:
    directory = Path(tempfile.mkdtemp(prefix="mwb-"))
    pair = Pair(directory)
    figures = []
    try:
        pair.up()
        for each, (measure, full, small) in ON_A_LAB.items():
            if name in (None, each):
                found = measure(pair, runs or (full if name else small))
                report.keep(each, found)
                figures += found
    finally:
        pair.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)
    return figures


def api() -> int:
    """In a process of its own: it gives itself a processor."""
    return subprocess.run([sys.executable, "-m", "bench.api"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
