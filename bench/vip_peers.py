"""How long nobody answers for the virtual IP after a fault: this product beside keepalived and ucarp, in one run.

    node death         all links of A are down, then A loses power
    orderly handover   ours: failover.become_passive, without a pool; the others: SIGTERM
    LAN cut            A's LAN has no carrier; the interlink is whole
    partition          A's LAN and the interlink lose every frame, with carrier; the client is on B's side. Ours stays
                       with A, which the disks show to live, so that client is without it until the end
    daemons killed     kill -9 of all processes; ours are three, which init starts again, as systemd does

In each round every contender suffers every fault once, one after the other, so that a slow moment of the machine is
nobody's alone. The probe (middlewared/lab/probe.py) and the definitions are the same for all: outage is the longest
time without a reply, whoever gave the last and the next one; double are replies of A after B's first; both are the
looks at the two kernels, one each few milliseconds, that found the address on both.

Two labs: the pair in one, bare controllers in the other, which run one of the peers at a time (bench/peers.py).
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from bench import peers
from bench.peers import Router
from bench.report import Figure
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Daemon, Pair
from middlewared.lab.faults import NODES
from middlewared.lab.layout import VIP
from middlewared.lab.watch import Course, Watch

NODE_DEATH, ORDERLY, LAN_CUT, PARTITION, KILLED = FAULTS = (
    "node death",
    "orderly handover",
    "LAN cut",
    "partition",
    "daemons killed",
)
TARGETS_MS = {NODE_DEATH: 1000.0, ORDERLY: 100.0, LAN_CUT: 1000.0}
"""design.md 8. For the orderly handover it is the 99th percentile that counts, else the maximum."""
BESIDE = "keepalived v3 0.1 s"
"""Whose median the others are told as a multiple of."""

PHASE_S = 1.4
AFTER_S = 0.5
OURS_S = 3.0
_LOOK_EACH_S = 0.004
_POLL_S = 0.02
_OWNER_S = 20.0
_DAEMONS: tuple[Daemon, ...] = ("fenced", "carpd", "middlewared")
_NO_PROGRAMS = {"controller": [], "shelf": [], "set_up": False}


class Contender(Protocol):
    """Who is measured. name: for the table. within_s: how long a takeover is waited for."""

    name: str
    within_s: float
    pair: Pair

    def prepare(self, fault: str) -> None:
        """Be whole, with the VIP at A."""

    def hand_over(self) -> None:
        """A gives the VIP away in good order."""

    def kill(self) -> None:
        """SIGKILL for every process of it on A."""

    def finish(self) -> None:
        """Leave the machine to the next one."""


class Ours:
    """The pair."""

    name = "ours"
    within_s = OURS_S

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def prepare(self, fault: str) -> None:
        if fault in (ORDERLY, LAN_CUT):
            # After three changes of role in ten minutes none but a takeover is made (rule FLAPPING), until a boot.
            for node in NODES:
                self.pair.power_off(node)
        self.pair.make_whole("A")

    def hand_over(self) -> None:
        self.pair.call("A", "failover.become_passive")

    def kill(self) -> None:
        peers.send([self.pair.pid("A", daemon) for daemon in _DAEMONS], signal.SIGKILL)

    def finish(self) -> None:
        """It stays up: nothing of it is more than idle while others are measured."""
        self.pair.make_whole()


class Peer:
    """One of the others, in the bare lab."""

    def __init__(self, pair: Pair, router: Router) -> None:
        self.pair = pair
        self.name = router.name
        self.within_s = router.took_over_within_s
        self._router = router

    def prepare(self, fault: str) -> None:
        """B begins when A has the VIP, so that A's adverts keep it standby."""
        self.finish()
        peers.start(self.pair, self._router, "A")
        self.pair.wait_until(f"{self.name}: A has the VIP", lambda: holds(self.pair.root_pid("A")), peers.START_S)
        peers.start(self.pair, self._router, "B")

    def hand_over(self) -> None:
        peers.send(peers.processes(self.pair, self._router, "A")[:1], signal.SIGTERM)

    def kill(self) -> None:
        peers.send(peers.processes(self.pair, self._router, "A"), signal.SIGKILL)

    def finish(self) -> None:
        self.pair.mend()
        peers.clear(self.pair, self._router)


class Looks:
    """Looks at both kernels, one each few milliseconds, in a thread. both: how many found the VIP on both."""

    def __init__(self, pair: Pair) -> None:
        self._pids = [pair.root_pid(node) for node in NODES]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.both = 0
        self.all = 0

    def __enter__(self) -> Looks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EACH_S):
            self.all += 1
            self.both += all(holds(pid) for pid in self._pids)


def holds(pid: int) -> bool:
    """Whether the kernel of the machine whose pid 1 is `pid` answers for the VIP; no while it is off."""
    try:
        table = Path(f"/proc/{pid}/net/fib_trie").read_text()
    except OSError:
        return False
    _, found, rest = table.partition(f"|-- {VIP}\n")
    return bool(found) and rest.split("\n", 1)[0].strip() == "/32 host LOCAL"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One fault that one contender suffered. looks: how often both kernels were looked at."""

    course: Course
    both: int
    looks: int


DEEDS: dict[str, Callable[[Contender], None]] = {
    NODE_DEATH: lambda contender: contender.pair.power_off("A"),
    ORDERLY: lambda contender: contender.hand_over(),
    LAN_CUT: lambda contender: contender.pair.cut("lan:A"),
    PARTITION: lambda contender: _part(contender.pair),
    KILLED: lambda contender: contender.kill(),
}


def _part(pair: Pair) -> None:
    pair.cut("interlink", way="out")
    pair.cut("interlink", way="in")
    pair.cut("lan:A", way="out")
    pair.cut("lan:A", way="in")


def measure(pair: Pair, runs: int) -> list[Figure]:
    """runs: how many rounds. Raises PortFailed where a peer is not installed, or a contender is not whole in time."""
    peers.check()
    directory = Path(tempfile.mkdtemp(prefix="mwp-"))
    bare = Pair(directory)
    try:
        (directory / "none.json").write_text(json.dumps(_NO_PROGRAMS))
        bare.up(stand_ins=directory / "none.json")
        contenders: list[Contender] = [Ours(pair), *(Peer(bare, router) for router in peers.ROUTERS)]
        done: dict[str, dict[str, list[Run]]] = {fault: {c.name: [] for c in contenders} for fault in FAULTS}
        for _ in range(runs):
            for fault in FAULTS:
                for contender in contenders:
                    done[fault][contender.name].append(suffer(contender, fault))
    finally:
        bare.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)
    return [
        figure(fault, name, found, _median(done[fault][BESIDE]))
        for fault in FAULTS
        for name, found in done[fault].items()
    ]


def suffer(contender: Contender, fault: str) -> Run:
    """Make it whole, let it suffer the fault, and say what the client saw."""
    contender.prepare(fault)
    with Watch(contender.pair) as watch:
        watch.wait_for_owner("A", _OWNER_S)
        time.sleep(random.uniform(0.3, 0.3 + PHASE_S))
        with Looks(contender.pair) as looks:
            at_ns = time.time_ns()
            DEEDS[fault](contender)
            _wait_for(watch, "B", contender.within_s)
            time.sleep(AFTER_S)
            course = watch.course("A", "B", at_ns)
    contender.finish()
    return Run(course=course, both=looks.both, looks=looks.all)


def _wait_for(watch: Watch, node: Node, within_s: float) -> None:
    """Not every fault moves the VIP: who does not come is not waited for any longer."""
    limit = time.monotonic() + within_s
    while watch.owner != node and time.monotonic() < limit:
        time.sleep(_POLL_S)


def figure(fault: str, name: str, runs: Sequence[Run], beside_ms: float) -> Figure:
    """One line: what the client saw. beside_ms: keepalived's median."""
    outages = sorted(run.course.outage_ms for run in runs)
    median, p99 = _median(runs), percentile_99(outages)
    double = sum(run.course.double for run in runs)
    both, looks = sum(run.both for run in runs), sum(run.looks for run in runs)
    moved, silent = sum(run.course.moved for run in runs), sum(not run.course.answers for run in runs)
    said = f"min {outages[0]:.0f}, median {median:.0f}, p99 {p99:.0f}, max {outages[-1]:.0f} ms"
    said += "" if silent else f" = {median / beside_ms:.2f} x {BESIDE}"
    said += f"; moved {moved}, silent to the end {silent}"
    said += f"; double replies {double}, on both {both} of {looks} looks"
    target_ms = TARGETS_MS.get(fault) if name == Ours.name else None
    if target_ms is not None:
        met = (p99 if fault == ORDERLY else outages[-1]) <= target_ms
        said += f"; {'within' if met else 'OVER'} {target_ms:.0f} ms"
    return Figure(
        what=f"{fault}, {name}",
        runs=len(runs),
        said=said,
        values={"outage_ms": outages, "double": double, "both": both, "looks": looks, "moved": moved, "silent": silent},
    )


def percentile_99(ascending: Sequence[float]) -> float:
    """Of a few values it is the largest."""
    return ascending[max(0, -(-len(ascending) * 99 // 100) - 1)]


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.course.outage_ms for run in runs)
