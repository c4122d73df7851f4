"""How long nobody answers for the virtual IP when the active controller fails, as a client on the LAN sees it.

Each run: the pair is whole and A is active; after a random while A fails; the probe asks each millisecond. outage:
from A's last reply to B's first (a frozen controller's kernel answers until its lease ends). double: replies that A
still gave after B's first one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec

from bench.report import Figure, spread
from middlewared.lab.driver import Pair
from middlewared.lab.watch import Change, Watch

PHASE_S = 0.3
AFTER_S = 0.5
TAKEOVER_S = 10.0
FROZEN_S = 1.5
"""How long a frozen controller stays so after it was relieved."""


class Fault(msgspec.Struct, frozen=True):
    """name: as the lab's command line has it. undo: what must follow it before the pair is made whole."""

    name: str
    do: Callable[[Pair], None]
    undo: Callable[[Pair], None]


def _thaw(pair: Pair) -> None:
    time.sleep(FROZEN_S)
    pair.thaw("A")
    pair.wait_until("A is standby by itself", lambda: pair.is_whole("B"), TAKEOVER_S)


FAULTS = (
    Fault("power A off", lambda pair: pair.power_off("A"), lambda _: None),
    Fault("freeze A", lambda pair: pair.freeze("A"), _thaw),
    Fault("cut lan:A", lambda pair: pair.cut("lan:A"), lambda pair: pair.heal("lan:A")),
    Fault("force_master on B", lambda pair: pair.force_master("B"), lambda _: None),
)


def measure(pair: Pair, runs: int) -> list[Figure]:
    """The outage for each fault."""
    with Watch(pair) as watch:
        return [_figure(fault, [_one(pair, watch, fault) for _ in range(runs)]) for fault in FAULTS]


def _one(pair: Pair, watch: Watch, fault: Fault) -> Change:
    pair.make_whole("A")
    watch.mark("A")
    watch.wait_for_owner("A")
    time.sleep(random.uniform(0, PHASE_S))
    at_ns = time.time_ns()
    fault.do(pair)
    watch.wait_for_owner("B", TAKEOVER_S)
    fault.undo(pair)
    time.sleep(AFTER_S)
    return watch.change("A", "B", at_ns)


def _figure(fault: Fault, changes: list[Change]) -> Figure:
    outages = [change.outage_ms for change in changes]
    after = [change.after_ms for change in changes]
    double = sum(change.double for change in changes)
    return Figure(
        what=f"VIP outage, {fault.name}",
        runs=len(changes),
        said=f"{spread(outages)} ms; B answers {spread(after)} ms after the command; double replies: {double}",
        values={"outage_ms": outages, "after_fault_ms": after, "double": double},
    )
