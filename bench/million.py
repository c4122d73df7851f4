"""A log of 10^6 events: verify, rebuild of the projections, start of the daemon, memory.

Floor of the first two: reading the same rows, hashing their bytes and decoding their payloads, and nothing else. Start
is from exec to `system.ready`, of a single controller with fenced, in network, mount and UTS namespaces of its own with
an /etc of its own; its floor is a Python process that imports what the daemon imports. Needs root.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from middlewared_plugins.network.configuration import Updated

from bench.report import Figure
from middlewared.client import OPTIONS, Connection, parse
from middlewared.engine import registry
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.kernel.event import START, Record, Stamp, seal
from middlewared.lab import namespaces
from middlewared.store.log import LogStore
from middlewared.store.reader import LogReader
from middlewared.store.rebuild import rebuild
from middlewared.store.verify import verify

TERMS = 100
GROUP = 1000
READY_S = 30.0
_BATCH = 2048
_OWN_ETC = """
mount --make-rprivate / && mkdir -p "$1/etc" && cp -a /etc/. "$1/etc/" && mount --bind "$1/etc" /etc
ip link set lo up
cd /
"$2" --config "$1/boot.toml" & fenced=$!
while [ ! -S "$1/run/fenced.sock" ]; do sleep 0.01; done
date +%s%N > "$1/began"
"$3" serve --config "$1/boot.toml" & daemon=$!
trap 'kill $daemon $fenced; wait' TERM
wait
"""


def measure(runs: int) -> list[Figure]:
    """runs: how many events there are."""
    with tempfile.TemporaryDirectory(prefix="mwb-") as name:
        data = Path(name) / "data"
        data.mkdir()
        write_log(data / "log.db", runs)
        floor_s = _seconds(lambda: _read_hash_decode(data / "log.db"))
        verify_s = _seconds(lambda: verify(data / "log.db"))
        rebuild_s = _seconds(lambda: _rebuild(data))
        figures = [
            _figure("verify", runs, verify_s, floor_s),
            _figure("rebuild of the projections", runs, rebuild_s, floor_s),
        ]
        if os.geteuid() != 0:
            raise PortFailed("measure the start of the daemon", "needs root: namespaces of its own")
        return [*figures, _start(Path(name), runs)]


def _figure(what: str, runs: int, took_s: float, floor_s: float) -> Figure:
    return Figure(
        what=what,
        runs=runs,
        said=f"{took_s:.2f} s, {runs / took_s:.0f} events/s; {took_s / floor_s:.2f} x reading, hashing and decoding"
        f" the rows ({floor_s:.2f} s)",
        values={"took_s": took_s, "floor_s": floor_s},
    )


def write_log(path: Path, count: int) -> None:
    """A log of `count` events in TERMS terms."""
    log = LogStore.open(path)
    try:
        at = START
        for first in range(0, count, GROUP):
            group: list[Record] = []
            for number in range(first, min(first + GROUP, count)):
                stamp = Stamp(
                    term=1 + number * TERMS // count,
                    origin="A",
                    actor="bench@127.0.0.1:1",
                    request_id=f"{number:032x}",
                    wall_ns=time.time_ns(),
                )
                group.append(seal(Updated(domain=f"{number}.bench.example", nameserver1="192.0.2.53"), at, stamp))
                at = group[-1].position
            log.append(group)
    finally:
        log.close()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _read_hash_decode(path: Path) -> None:
    total = hashlib.sha256()
    decode = msgspec.json.Decoder(Updated).decode
    with LogReader(path, untouched=True) as log:
        for record in _all(log):
            total.update(record.payload)
            decode(record.payload)


def _all(log: LogReader) -> Iterator[Record]:
    seq = 0
    while batch := log.since(seq, _BATCH):
        yield from batch
        seq = batch[-1].seq


def _rebuild(data: Path) -> None:
    plugins = registry.load()
    with LogReader(data / "log.db", untouched=True) as log:
        rebuild(log, data / "state.db", plugins.catalogue, list(plugins.nouns.values()))


# --- the start ---


def _start(directory: Path, runs: int) -> Figure:
    binaries = Path(sys.executable).parent
    imports_s = _seconds(
        lambda: subprocess.run([sys.executable, "-c", "import middlewared.daemon, uvloop"], check=True, timeout=60)
    )
    run = directory / "run"
    run.mkdir()
    text = f'node = "A"\ndata_dir = "{directory}/data"\nrun_dir = "{run}"\nlisten = "127.0.0.1:80"\n'
    (directory / "boot.toml").write_text(text)
    programs = (str(binaries / "middlewared-fenced"), str(binaries / "middlewared"))
    argv = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*argv, "bash", "-c", _OWN_ETC, "start", str(directory), *programs], stderr=log)
    try:
        ready_ns = asyncio.run(_ready(run / "middlewared.sock"))
        took_s = (ready_ns - int((directory / "began").read_text())) / 1e9
        pss_mib = max(_pss_kib(pid) for pid in namespaces.members(_child(process.pid))) / 1024
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    return Figure(
        what="start, from exec to system.ready",
        runs=runs,
        said=f"{took_s:.2f} s = {took_s / imports_s:.2f} x its imports ({imports_s:.2f} s); memory {pss_mib:.0f} MiB",
        values={"took_s": took_s, "imports_s": imports_s, "pss_mib": pss_mib},
    )


async def _ready(socket: Path) -> int:
    """When the daemon says that it is ready; wall clock, ns."""
    until = time.monotonic() + READY_S
    address = parse(f"ws+unix://{socket}")
    while time.monotonic() < until:
        try:
            connection = await Connection.open(address, OPTIONS, 1.0)
        except MiddlewareError:
            await asyncio.sleep(0.01)
            continue
        try:
            while time.monotonic() < until:
                if (await connection.request("system.ready", [], 1.0)).result is True:
                    return time.time_ns()
                await asyncio.sleep(0.005)
        finally:
            await connection.close()
    raise PortFailed("start the daemon", f"not ready within {READY_S:g} s")


def _child(pid: int) -> int:
    """The process that `unshare` started in the new namespaces."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _pss_kib(pid: int) -> int:
    """Proportional set size (proc_pid_smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
