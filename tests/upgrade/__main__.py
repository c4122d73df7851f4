"""A pair of another version is upgraded to this one under writers, in both orders, and the logs are held against them.

    python -m tests.upgrade [--rev REV] [--order standby-first|active-first]

Needs root: a lab with its namespaces. Every order begins with a fresh pair of the other version. Printed is what each
step did to the writers: how many writes were accepted, how long the longest took with its retries, and what was lost.
Exit status 1 when anything is not as it must be.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import LOG_FORMAT, Record
from middlewared.kernel.facts import Node, other
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.log_format import Raised
from middlewared.store.reader import LogReader
from middlewared.store.verify import verify
from tests.campaign.history import check
from tests.upgrade.build import install
from tests.upgrade.writers import Writers

FIRST_BUILD = "b472ea0"
WHOLE_S = 60.0
BETWEEN_S = 2.0
"""How long the writers go on undisturbed between two steps."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__.splitlines()[0])
    parser.add_argument("--rev", default=FIRST_BUILD, help="the version before (default: %(default)s)")
    parser.add_argument("--order", choices=ORDERS, help="only this one")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mwu-", dir="/tmp"))
    try:
        before = install(args.rev, directory)
        orders = [args.order] if args.order else list(ORDERS)
        faults = [fault for order in orders for fault in run(order, before, directory)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"faults: {len(faults)}")
    return 1 if faults else 0


def run(order: str, before: Path, directory: Path) -> list[str]:
    """One order, from a fresh pair of the version before to two logs of the newest format. Returns what is wrong."""
    print(f"{order}:", flush=True)
    upgrade = Upgrade(order, before, directory)
    try:
        upgrade.begin()
        ORDERS[order](upgrade)
        upgrade.finalize()
        return upgrade.end()
    finally:
        upgrade.close()


class Upgrade:
    """A pair whose controllers run the build that a symbolic link of each points to."""

    def __init__(self, order: str, before: Path, directory: Path) -> None:
        self.pair = Pair(directory / order)
        self._before, self._present = before, Path(sys.executable).parent.parent
        self._links: dict[Node, Path] = {node: directory / f"{order}-{node}" for node in NODES}
        self._faults: list[str] = []
        self._writers: Writers

    def begin(self) -> None:
        for link in self._links.values():
            link.symlink_to(self._before)
        self.pair.up(self._links)
        self._writers = Writers(self.pair)
        self._writers.start()
        self.step("both run the version before", lambda: None)

    def step(self, what: str, deed: Callable[[], None]) -> None:
        """Do it under the writers, wait until the pair is whole, and say what the writers met."""
        begun = time.monotonic()
        deed()
        self.pair.wait_until(what, self.pair.is_whole, WHOLE_S)
        took_s = time.monotonic() - begun
        time.sleep(BETWEEN_S)
        print(f"  {took_s:6.2f} s  {what}; {self._writers.since_last()}", flush=True)

    def swap(self, node: Node, to: Path, *, forget_state: bool = False) -> None:
        """Power the controller off, put another build in its place, power it on."""
        self.pair.power_off(node)
        fresh = self._links[node].with_suffix(".new")
        fresh.symlink_to(to)
        fresh.rename(self._links[node])
        if forget_state:
            for path in self.pair.layout.machine(node).glob("state.db*"):
                path.unlink()
        self.pair.power_on(node)

    def upgrade(self, node: Node) -> None:
        self.step(f"{node} is upgraded, as {self.pair.role(node)}", lambda: self.swap(node, self._present))

    def downgrade(self, node: Node) -> None:
        self.step(
            f"{node} goes back to the version before, without its state.db",
            lambda: self.swap(node, self._before, forget_state=True),
        )

    def fail_over_to(self, node: Node) -> None:
        self.step(f"fail over to {node}", lambda: self.pair.force_master(node))

    def must_not_finalize(self, node: Node) -> None:
        try:
            self.pair.call(node, "upgrade.finalize")
        except CallFailed as e:
            print(f"            refused, as it must be: {e}", flush=True)
            if "upgrade it first" not in str(e):
                self._faults.append(f"upgrade.finalize was refused for another reason: {e}")
        else:
            self._faults.append("upgrade.finalize was accepted although the other controller runs the version before")

    def finalize(self) -> None:
        active = next(node for node in NODES if self.pair.role(node) == "MASTER")
        if self.pair.call(active, "failover.upgrade_pending") is not True:
            self._faults.append("failover.upgrade_pending is not true although both controllers were upgraded")
        self.step("upgrade.finalize", lambda: self._raise(active))
        self.fail_over_to(other(active))
        for node in NODES:
            status = self.pair.call(node, "upgrade.status")
            if not isinstance(status, dict) or status["log_format"] != LOG_FORMAT:
                self._faults.append(f"{node} does not go on in format {LOG_FORMAT}: {status}")

    def _raise(self, active: Node) -> None:
        self.pair.call(active, "upgrade.finalize")
        self.pair.call(active, "upgrade.finalize")

    def end(self) -> list[str]:
        """Stop the writers and hold what they were answered against both logs."""
        writes = self._writers.stop()
        self.pair.wait_until("the pair is whole at the end", self.pair.is_whole, WHOLE_S)
        logs: dict[str, list[Record]] = {node: _log(self.pair, node) for node in NODES}
        verdict = check(writes, logs, [])
        equal = "equal" if logs["A"] == logs["B"] else "DIFFER"
        digests = {self.pair.sync(node).state_digest for node in NODES}
        for node in NODES:
            verify(self.pair.layout.machine(node) / "log.db")
        if len(digests) > 1:
            self._faults.append(f"the states differ: {sorted(digests)}")
        self._faults += verdict.lost
        self._faults += verdict.unexplained
        self._faults += [f"{w.value} was never accepted: {w.said}" for w in writes if w.level == "unknown"]
        self._faults += _wrong_methods(logs["A"])
        print(
            f"  {self._writers.totals()}; lost {len(verdict.lost)}, "
            f"written twice by a retry {len(verdict.duplicated)}; {len(logs['A'])} records, "
            f"logs {equal}, digests {'equal' if len(digests) == 1 else 'DIFFER'}",
            flush=True,
        )
        return self._faults

    def close(self) -> None:
        self.pair.down(wipe=True)


def _log(pair: Pair, node: Node) -> list[Record]:
    with LogReader(pair.layout.machine(node) / "log.db") as log:
        return log.since(0, 1_000_000)


def _wrong_methods(log: list[Record]) -> list[str]:
    """A record says its method after the raise, and only there."""
    raised = [record.seq for record in log if record.kind == Raised.kind]
    if len(raised) != 1:
        return [f"the log was raised {len(raised)} times"]
    asked = [record for record in log if record.kind.startswith("network.") and record.seq != raised[0]]
    return [
        f"seq {record.seq} of a log raised at {raised[0]} says method {record.method!r}"
        for record in asked
        if bool(record.method) != (record.seq > raised[0])
    ]


def standby_first(upgrade: Upgrade) -> None:
    upgrade.upgrade("B")
    upgrade.fail_over_to("B")
    upgrade.must_not_finalize("B")
    upgrade.fail_over_to("A")
    upgrade.downgrade("B")
    upgrade.upgrade("B")
    upgrade.fail_over_to("B")
    upgrade.upgrade("A")


def active_first(upgrade: Upgrade) -> None:
    upgrade.upgrade("A")
    upgrade.fail_over_to("A")
    upgrade.must_not_finalize("A")
    upgrade.upgrade("B")
    upgrade.downgrade("B")
    upgrade.upgrade("B")


ORDERS = {"standby-first": standby_first, "active-first": active_first}

if __name__ == "__main__":
    sys.exit(main())
