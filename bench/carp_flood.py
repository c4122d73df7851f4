"""What a flood of CARP frames does to the pair: nothing but cost carpd a share of a processor.

Frames at 10 000 a second from the client's place on the LAN, in equal parts: recorded adverts again, the same with
advskew and advbase 0, with bits turned, with another key and a far term, and random bytes (`carp_sender.py`).
Held: nobody's state, term or VIP changes. Measured: processor time of each carpd, beside that without a flood.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Figure
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair

FRAMES_PER_S = 10_000
QUIET_S = 5.0
_SENDER = Path(__file__).with_name("carp_sender.py")
_TICKS = os.sysconf("SC_CLK_TCK")
_SLACK_S = 60.0
NODES: tuple[Node, ...] = ("A", "B")


def measure(pair: Pair, runs: int) -> list[Figure]:
    """runs: how many frames. Raises PortFailed when anything changed."""
    pair.make_whole("A")
    quiet = _share(pair, lambda: time.sleep(QUIET_S))
    before = _standing(pair)
    sent: dict[str, int] = {}

    def flood() -> None:
        argv = (sys.executable, str(_SENDER), "eth0", str(runs), str(FRAMES_PER_S), "1")
        told = pair.run("client", *argv, timeout_s=runs / FRAMES_PER_S + _SLACK_S)
        sent.update(json.loads(told))

    start = time.monotonic()
    flooded = _share(pair, flood)
    per_s = runs / (time.monotonic() - start)
    after = _standing(pair)
    if after != before:
        raise PortFailed("the pair stands as before the flood", f"{before} became {after}")
    return [
        Figure(
            what=f"carpd of {node} under a CARP flood",
            runs=runs,
            said=f"{flooded[node]:.1%} of a processor at {per_s:.0f} frames/s (without: {quiet[node]:.1%});"
            f" state changes: 0; sent {sent}",
            values={"flooded": flooded[node], "quiet": quiet[node], "per_s": per_s, "sent": sent},
        )
        for node in NODES
    ]


def _share(pair: Pair, deed: Callable[[], None]) -> dict[Node, float]:
    """The share of a processor that each carpd took meanwhile."""
    pids = {node: pair.pid(node, "carpd") for node in NODES}
    start, before = time.monotonic(), {node: _cpu_s(pid) for node, pid in pids.items()}
    deed()
    lasted_s = time.monotonic() - start
    return {node: (_cpu_s(pid) - before[node]) / lasted_s for node, pid in pids.items()}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _standing(pair: Pair) -> dict[str, object]:
    """What no frame may change: the roles, their terms, and who answers for the VIP."""
    roles = {node: (pair.role(node), pair.sync(node).term) for node in NODES}
    return {"roles": roles, "vip": pair.vip_owner()}
