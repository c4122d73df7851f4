"""Every step of a change of roles, and a fault of either controller in the middle of it.

    python -m tests.failover.crash_points [--steps handover:export,takeover:import] [--kinds crash,kill]

A step of a plan (docs/failover.md) is held where its deed is done and nobody was told of it yet (`halting.py`; `taken`,
which waits for the other side, before it), and then a fault comes. 90 rows, by what the change began with:

    handover   48: the active controller is asked to hand over, and held at each step of that
    promotion  24: it is asked, and the other one is held at each step of its promotion
    takeover   18: it loses its power, and the other one is held at each step of its promotion

`doer` is the controller whose plan is held, `other` the other one. The fault is one of

    crash      the controller loses its power, and stays off until somebody serves
    freeze     it is frozen, and thawed 5 s later
    partition  interlink and its LAN are cut, and mended 5 s later
    kill       its middlewared is killed
    returns    it gets its power back

In a takeover `other` is off, and stays so until somebody serves, but for these: `returns`; `partition`, where it gets
its power back behind cut cables; and the crash of `doer`, after which both get theirs back, since nobody is left.

The outcome of each row: who was told to have the pool first after the fault was over, and after how long. What must not
be, in any row: nobody serves 30 s after the fault, though one controller is whole; two could write the disks; an
acknowledged record is lost; a scrub finds errors; the pair does not become whole and equal again. Needs root and
zfs-fuse.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node, other
from middlewared.lab import programs
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.protocol.plan import HANDOVER, PROMOTION, Plan
from tests.failover import tank
from tests.failover.importers import Importers
from tests.failover.writer import Writer

Change: TypeAlias = Literal["handover", "promotion", "takeover"]
Kind: TypeAlias = Literal["crash", "freeze", "partition", "kill", "returns"]
Hit: TypeAlias = Literal["doer", "other"]

HELD: dict[Change, Plan] = {"handover": HANDOVER, "promotion": PROMOTION, "takeover": PROMOTION}
RUNS: tuple[Kind, ...] = ("crash", "freeze", "partition", "kill")
"""What can happen to a controller that runs."""
IS_OFF: tuple[Kind, ...] = ("partition", "returns")
"""And to one that is off."""

HELD_S = 5.0
SERVES_S = 30.0
WHOLE_S = 40.0
READY_S = 4.0
STAYS_S = 1.0
REACHED_S = 15.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    plan: Change
    step: str
    hit: Hit
    kind: Kind

    def __str__(self) -> str:
        return f"{self.plan:<9} {self.step:<8} {self.hit:<6} {self.kind:<9}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """served: who, after served_s of the end of the fault. wrong: what must not be, in sentences."""

    served: Hit
    served_s: float
    whole_s: float
    wrong: tuple[str, ...] = ()


def rows(steps: frozenset[str], kinds: frozenset[str]) -> Iterator[Row]:
    """steps: `PLAN:STEP`, empty: all."""
    for name, plan in HELD.items():
        for step in plan.steps:
            for hit in get_args(Hit):
                for kind in IS_OFF if (name, hit) == ("takeover", "other") else RUNS:
                    if (not steps or f"{name}:{step.name}" in steps) and kind in kinds:
                        yield Row(plan=name, step=step.name, hit=hit, kind=kind)


class CrashPoints:
    """To be used while `writer` and `importers` run."""

    def __init__(self, pair: Pair, pool: tank.Tank, writer: Writer, importers: Importers) -> None:
        self._pair = pair
        self._pool = pool
        self._writer = writer
        self._importers = importers

    def one(self, row: Row) -> Outcome:
        """Raises PortFailed where the pair does not do in time what it must."""
        active = self._ready()
        doer = active if row.plan == "handover" else other(active)
        hit = doer if row.hit == "doer" else other(doer)
        changes = len(self._importers.changes)
        with self._held(doer, row):
            self._begin(active, row.plan)
            halted = self._file(doer, "halted")
            self._pair.wait_until(f"{doer} is at {row.step}", halted.exists, REACHED_S)
            self._strike(hit, row.kind)
        self._undo(hit, row)
        server, served_s = self._serves()
        whole_s = self._whole()
        wrong = self._judge()
        if any(len(seen.could_write) > 1 for seen in self._importers.changes[changes:]):
            wrong += ("two controllers could write the disks",)
        return Outcome(
            served="doer" if server == doer else "other", served_s=served_s, whole_s=whole_s, wrong=tuple(wrong)
        )

    def _begin(self, active: Node, change: Change) -> None:
        if change == "takeover":
            self._pair.power_off(active)
        else:
            threading.Thread(target=self._ask_to_hand_over, args=(active,), daemon=True).start()

    def _ask_to_hand_over(self, active: Node) -> None:
        """The answer may never come: what becomes of it is seen otherwise."""
        with contextlib.suppress(MiddlewareError, OSError):
            self._pair.call(active, "failover.become_passive", timeout_s=REACHED_S)

    def _ready(self) -> Node:
        """The active controller of a whole pair that would hand over."""
        pair = self._pair
        try:
            pair.wait_until("nothing is against a handover", self._available, READY_S)
        except MiddlewareError:
            self.begin_anew()
        active: Node = "A" if pair.role("A") == "MASTER" else "B"
        self._writer.wait_for(active)
        return active

    def _available(self) -> bool:
        return self._pair.is_whole() and all(self._pair.call(n, "failover.disabled.reasons") == [] for n in NODES)

    def begin_anew(self) -> None:
        """Both off and on: rows follow each other faster than the pair lets its term move."""
        for node in NODES:
            self._pair.power_off(node)
            self._file(node, "ended.json").unlink(missing_ok=True)
        for node in NODES:
            self._pair.power_on(node)
        self._pair.wait_until("nothing is against a handover", self._available, WHOLE_S)
        for node in NODES:
            self._writer.start(node)

    @contextlib.contextmanager
    def _held(self, doer: Node, row: Row) -> Iterator[None]:
        """The plan waits at the step until the fault is in force."""
        self._file(doer, "halted").unlink(missing_ok=True)
        when = "before" if row.step == "taken" else "after"
        self._file(doer, "halt").write_text(f"{HELD[row.plan].name} {row.step} {when}")
        try:
            yield
        finally:
            self._file(doer, "halt").unlink()

    def _strike(self, node: Node, kind: Kind) -> None:
        match kind:
            case "crash":
                self._pair.power_off(node)
            case "freeze":
                self._pair.freeze(node)
            case "partition":
                self._pair.cut("interlink", "lan:A" if node == "A" else "lan:B")
                self._pair.power_on(node)  # of one that is off
            case "kill":
                self._pair.kill(node, "middlewared")
            case "returns":
                self._pair.power_on(node)

    def _undo(self, node: Node, row: Row) -> None:
        if row.kind == "freeze":
            time.sleep(HELD_S)
            self._pair.thaw(node)
        elif row.kind == "partition":
            time.sleep(HELD_S)
            self._pair.heal("interlink", "lan:A" if node == "A" else "lan:B")
        elif row.kind == "crash" and row.plan == "takeover":
            for off in NODES:
                self._pair.power_on(off)
                self._writer.start(off)

    def _serves(self) -> tuple[Node, float]:
        """Who is the next to acknowledge a write, and after how long."""
        began, began_ns = time.monotonic(), time.monotonic_ns()
        server: list[Node] = []

        def anybody() -> bool:
            server[:] = [node for node in NODES if self._writer.first_after(node, began_ns) is not None]
            return bool(server)

        self._pair.wait_until("somebody serves the pool", anybody, SERVES_S)
        return server[0], time.monotonic() - began

    def _whole(self) -> float:
        began = time.monotonic()
        for node in NODES:
            self._pair.power_on(node)
        self._pair.wait_until("the pair is whole, and stays so", self._stays_whole, WHOLE_S)
        for node in NODES:
            self._writer.start(node)
        active: Node = "A" if self._pair.role("A") == "MASTER" else "B"
        self._writer.wait_for(active)
        return time.monotonic() - began - STAYS_S

    def _stays_whole(self) -> bool:
        """One that was thawed looks well until it knows that it must end itself."""
        before = self._pair.is_whole()
        time.sleep(STAYS_S)
        return before and self._pair.is_whole()

    def _judge(self) -> tuple[str, ...]:
        """Read everything back."""
        active: Node = "A" if self._pair.role("A") == "MASTER" else "B"
        wrong = []
        verdict, _ = self._writer.verdict(active)
        if not verdict.clean:
            wrong.append(f"the file of {verdict.count} records: {verdict}")
        if scan := tank.scrub(self._pair, self._pool).errors:
            wrong.append(f"scrub: {scan} errors")
        if self._pair.sync("A").state_digest != self._pair.sync("B").state_digest:
            wrong.append("the states differ")
        return tuple(wrong)

    def _file(self, node: Node, name: str) -> Path:
        return self._pair.layout.machine(node) / name


def halting_programs(pair: Pair) -> Path:
    """What the lab runs, with a middlewared whose steps can be held; a file for `Pair.up`."""
    ours = programs.ours(pair.layout, {})
    script = (sys.executable, str(Path(__file__).with_name("halting.py")))
    services = [
        msgspec.structs.replace(service, argv=(*script, *service.argv)) if service.name == "middlewared" else service
        for service in ours.controller
    ]
    file = pair.layout.dir / "halting.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(ours, controller=tuple(services))))
    return file


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.failover.crash_points", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="", help=f"PLAN:STEP,...: only these; PLAN: {', '.join(HELD)}")
    parser.add_argument("--kinds", default=",".join(get_args(Kind)), help="only these (default: %(default)s)")
    args = parser.parse_args()
    wanted = list(rows(frozenset(filter(None, args.steps.split(","))), frozenset(args.kinds.split(","))))
    directory = Path(tempfile.mkdtemp(prefix="mwf-", dir="/tmp"))
    pair = Pair(directory)
    try:
        pair.up(stand_ins=halting_programs(pair))
        pool = tank.make(pair)
        with Importers(pair, tank.DISKS) as importers, Writer(pair) as writer:
            points = CrashPoints(pair, pool, writer, importers)
            wrong = sum(_say(points, row) for row in wanted)
            print(f"{len(wanted)} rows, {wrong} wrong; {len(writer.told)} records acknowledged", flush=True)
    finally:
        pair.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if wrong else 0


def _say(points: CrashPoints, row: Row) -> bool:
    """Carry a row out and print it; whether anything was wrong."""
    try:
        outcome = points.one(row)
    except MiddlewareError as e:
        print(f"{row} WRONG: {e}", flush=True)
        points.begin_anew()
        return True
    said = "; ".join(f"WRONG: {sentence}" for sentence in outcome.wrong) or "as it must be"
    when = f"serves after {outcome.served_s:5.2f} s, whole after {outcome.whole_s:5.2f} s"
    print(f"{row} {outcome.served:<6} {when}, {said}", flush=True)
    return bool(outcome.wrong)


if __name__ == "__main__":
    sys.exit(main())
