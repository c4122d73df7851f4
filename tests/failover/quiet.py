"""Nothing is wrong with either controller, but it is slow: the roles must not change.

    python -m tests.failover.quiet [--minutes 10] [--only busy,lossy,stall]

    busy    16 processes, 8 in each controller, that use all the processor time there is
    lossy   30 % of the frames of both LAN cables and of the interlink are lost
    stall   each fsync of middlewared takes 10 s, on both controllers (`stall.c`, in middlewared alone)

Each for so many minutes, on a pair with a pool, under the numbered writer and configuration writes. It prints how
often a role changed or was not told, how often the virtual IP changed hands, and exit status 1 when a role changed.
Needs root, zfs-fuse and a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.lab import programs
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES, Link
from tests.failover import tank
from tests.failover.writer import Writer

Load: TypeAlias = Literal["busy", "lossy", "stall"]

CABLES: tuple[Link, ...] = ("lan:A", "lan:B", "interlink")
BUSY_EACH = 8
LOOK_S = 0.5
WHOLE_S = 60.0


class Seen(msgspec.Struct):
    """looks: how often both were asked. silent: looks at which a controller said nothing. changes: of a role, in words.

    written: configuration writes that were answered. terms: how far the term moved, by claims over the own key.
    """

    looks: int = 0
    silent: int = 0
    written: int = 0
    terms: int = 0
    changes: tuple[str, ...] = ()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.failover.quiet", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of each")
    parser.add_argument("--only", default=",".join(get_args(Load)))
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mwq-", dir="/tmp"))
    pair = Pair(directory)
    changed = 0
    try:
        pair.up(stand_ins=stalling_programs(pair))
        tank.make(pair)
        with Writer(pair) as writer:
            writer.wait_for("A")
            for load in msgspec.convert(args.only.split(","), list[Load]):
                told = len(writer.told)
                seen = watch(pair, load, args.minutes * 60)
                changed += len(seen.changes)
                print(
                    f"{load:<6} {args.minutes:g} min: role changes {len(seen.changes)}, {seen.looks} looks, no word"
                    f" {seen.silent} times, terms +{seen.terms}, {len(writer.told) - told} records on the pool,"
                    f" {seen.written} configuration writes",
                    flush=True,
                )
                for change in seen.changes:
                    print(f"       {change}", flush=True)
                pair.wait_until("the pair is whole", pair.is_whole, WHOLE_S)
    finally:
        pair.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if changed else 0


def watch(pair: Pair, load: Load, during_s: float) -> Seen:
    """Put the load on, and look until the time is over."""
    seen = Seen()
    was = {node: pair.role(node) for node in NODES}
    before = _term(pair)
    end = time.monotonic() + during_s
    with _load(pair, load):
        while time.monotonic() < end:
            status = pair.status()
            seen.looks += 1
            for node in NODES:
                role = status.nodes[node].role
                if role is None:
                    seen.silent += 1
                elif role != was[node]:
                    seen.changes += (f"{node}: {was[node]} -> {role}",)
                    was[node] = role
            with contextlib.suppress(MiddlewareError):
                pair.call("A", "network.configuration.update", {"domain": f"d{seen.looks}.test"}, timeout_s=1.0)
                seen.written += 1
            time.sleep(LOOK_S)
    pair.wait_until("A says its term", lambda: pair.status().nodes["A"].term is not None, WHOLE_S)
    seen.terms = _term(pair) - before
    return seen


def _term(pair: Pair) -> int:
    return max(node.term or 0 for node in pair.status().nodes.values())


@contextlib.contextmanager
def _load(pair: Pair, load: Load) -> Iterator[None]:
    processes: list[subprocess.Popen[bytes]] = []
    stalls = [pair.layout.machine(node) / "stall" for node in NODES]
    try:
        if load == "busy":
            processes = [_busy(pair, node) for node in NODES for _ in range(BUSY_EACH)]
        elif load == "lossy":
            pair.cut(*CABLES, way="lossy")
        else:
            for file in stalls:
                file.touch()
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
        for file in stalls:
            file.unlink(missing_ok=True)
        pair.heal(*CABLES)


def _busy(pair: Pair, machine: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "middlewared.lab.command", "exec", machine, "--dir", str(pair.layout.dir)]
    return subprocess.Popen([*argv, "--", sys.executable, "-c", "while True: pass"], stdin=subprocess.DEVNULL)


def stalling_programs(pair: Pair) -> Path:
    """What the lab runs, with a middlewared whose fsync can be stalled; a file for `Pair.up`."""
    shim = pair.layout.dir / "stall.so"
    source = Path(__file__).with_name("stall.c")
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", shim, source], check=True, timeout=60)
    ours = programs.ours(pair.layout, {})
    words = ("env", f"LD_PRELOAD={shim}", "STALL_WHILE={dir}/stall")
    services = [
        msgspec.structs.replace(service, argv=(*words, *service.argv)) if service.name == "middlewared" else service
        for service in ours.controller
    ]
    file = pair.layout.dir / "stalling.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(ours, controller=tuple(services))))
    return file


if __name__ == "__main__":
    sys.exit(main())
