"""kill -9 of each process on the active controller: how long until the API answers, and that nothing moves.

API back: from the signal until a new connection at the virtual IP logs in and is told MASTER; for carpd and fenced
that shows that the API never went. Write back: until a write through the virtual IP is answered.
"""

from __future__ import annotations

import random
import time

from bench.report import Figure, spread
from middlewared.client import SyncClient
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.kernel.tenure import TermBegan
from middlewared.lab.driver import Daemon, Pair
from middlewared.lab.watch import Watch
from middlewared.store.reader import LogReader

DAEMONS: tuple[Daemon, ...] = ("middlewared", "carpd", "fenced")
BACK_S = 15.0
PAUSE_S = (1.0, 1.3)
"""Between two kills: init waits longer before it starts again what died younger than a second."""
_POLL_S = 0.005


def measure(pair: Pair, runs: int) -> list[Figure]:
    pair.make_whole("A")
    with Watch(pair) as watch:
        return [_kill_again_and_again(pair, watch, daemon, runs) for daemon in DAEMONS]


def _kill_again_and_again(pair: Pair, watch: Watch, daemon: Daemon, runs: int) -> Figure:
    api_ms, write_ms, silence_ms = [], [], []
    begun, replies = _terms_of_b(pair), watch.replies("B")
    for count in range(runs):
        watch.wait_for_owner("A")
        time.sleep(random.uniform(*PAUSE_S))
        before = pair.pid("A", daemon)
        start, start_ns = time.monotonic(), time.time_ns()
        pair.kill("A", daemon)
        api_ms.append(_until(pair, start, "failover.status"))
        domain = {"domain": f"{daemon}-{count}-{start_ns:x}.test"}
        write_ms.append(_until(pair, start, "network.configuration.update", domain))
        _wait_for_the_next(pair, daemon, before)
        pair.wait_until("the pair is whole", pair.is_whole, BACK_S)
        silence_ms.append(watch.longest_silence_ms(start_ns))
    takeovers = _terms_of_b(pair) - begun + (watch.replies("B") > replies)
    return Figure(
        what=f"kill -9 {daemon} on the active",
        runs=runs,
        said=f"API back {spread(api_ms)} ms; write back {spread(write_ms)} ms; longest silence of the VIP"
        f" {spread(silence_ms)} ms; takeovers {takeovers}",
        values={"api_ms": api_ms, "write_ms": write_ms, "silence_ms": silence_ms, "takeovers": takeovers},
    )


def _terms_of_b(pair: Pair) -> int:
    """How many terms B has begun: each owner's first record says so."""
    with LogReader(pair.layout.machine("A") / "log.db") as log:
        return sum(r.origin == "B" and r.kind == TermBegan.kind for r in log.since(0, 1_000_000))


def _wait_for_the_next(pair: Pair, daemon: Daemon, before: int) -> None:
    pair.wait_until(f"{daemon} is back", lambda: pair.pid("A", daemon) != before, BACK_S)


def _until(pair: Pair, start: float, method: str, *params: object) -> float:
    """Milliseconds from `start` until the call is answered at the virtual IP; each try is a new client."""
    while time.monotonic() - start < BACK_S:
        try:
            with SyncClient(pair.result.vip_url, username=pair.result.user, password=pair.result.password) as client:
                answer = client.call(method, *params, timeout_s=BACK_S, again=True)
            if method != "failover.status" or answer == "MASTER":
                return (time.monotonic() - start) * 1000
        except MiddlewareError:
            pass
        time.sleep(_POLL_S)
    raise PortFailed(f"{method} at the virtual IP", f"no answer within {BACK_S:g} s after the kill")
