"""Faults of the whole pair while it has a pool and a writer: who serves then, and what became of the pool.

Needs root and zfs-fuse. What is measured and tried many times over is for `python -m tests.failover`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES, Link
from middlewared.lab.programs import WATCHDOG_S, pools_possible
from tests.failover import tank
from tests.failover.importers import Importers
from tests.failover.writer import Writer
from tests.integration.conftest import boot_both, holds_for

pytestmark = [pytest.mark.root, pytest.mark.full]

SERVES_S = 30.0

WEDGED_ZPOOL = """#!/bin/sh
# zpool as mode says: hangs, an export does not end; lies, it does nothing, and from then on no pool is listed.
cd {directory} || exit 1
case "$(cat mode) $1" in
"hangs export") exec sleep 60 ;;
"lies export") echo lied > mode && exit 0 ;;
"lied list") exit 0 ;;
esac
exec ./zpool "$@"
"""


class Bench:
    """The pair with a pool, its writer, and who could write the disks."""

    def __init__(self, pair: Pair, pool: tank.Tank, writer: Writer, importers: Importers) -> None:
        self.pair = pair
        self.pool = pool
        self.writer = writer
        self.importers = importers

    @property
    def active(self) -> Node:
        self.pair.wait_until("the pair is whole", self.pair.is_whole, SERVES_S)
        return "A" if self.pair.role("A") == "MASTER" else "B"

    def is_unharmed(self) -> None:
        """One writer at a time, and everything that was acknowledged is there."""
        active = self.active
        for node in NODES:
            self.writer.start(node)
        self.writer.wait_for(active)
        verdict, _ = self.writer.verdict(active)
        assert verdict.clean, verdict
        assert tank.scrub(self.pair, self.pool).errors == 0
        assert self.importers.most == 1


def wedge_zpool(pair: Pair, node: Node, mode: str) -> None:
    """The node's zpool is another one until the node boots."""
    directory = pair.layout.machine(node) / "wedged"
    directory.mkdir(exist_ok=True)
    real = shutil.which("zpool")
    assert real is not None
    shutil.copy(real, directory / "zpool")
    wedged = directory / "wedged"
    wedged.write_text(WEDGED_ZPOOL.format(directory=directory))
    wedged.chmod(0o755)
    (directory / "mode").write_text(mode)
    pair.run(node, "mount", "--bind", str(wedged), os.path.realpath(real))


@pytest.fixture
def bench(pair: Pair) -> Iterator[Bench]:
    if not pools_possible():
        pytest.skip("needs zfs-fuse")
    if pair.call("A", "failover.disabled.reasons"):
        boot_both(pair)
    pool = tank.make(pair)
    with Importers(pair, tank.DISKS) as importers, Writer(pair) as writer:
        writer.wait_for("A")
        made = Bench(pair, pool, writer, importers)
        yield made
    active = made.active
    pair.call(active, "failover.update", {"disabled": True})
    tank.job(pair, "pool.export", pool.id, {"destroy": True})
    pair.call(active, "failover.update", {"disabled": False})


def test_f17_s5_without_lan_and_interlink_the_owner_keeps_the_pool_and_the_other_one_stands_by(bench: Bench) -> None:
    pair = bench.pair
    pair.cut("interlink", "lan:A", "lan:B")
    holds_for(lambda: bench.importers.now.imported == ("A",), 5.0, "A alone has the pool")
    assert (pair.role("A"), pair.role("B")) == ("MASTER", "BACKUP")
    pair.heal("interlink", "lan:A", "lan:B")
    assert bench.active == "A"
    bench.is_unharmed()


def test_f5_s2_a_frozen_owner_is_relieved_and_ends_itself_when_it_thaws(bench: Bench) -> None:
    pair = bench.pair
    boot = pair.root_pid("A")
    pair.freeze("A")
    taken_ns = bench.writer.wait_for("B")
    assert bench.importers.now.could_write == ("B",)
    pair.thaw("A")
    pair.wait_until("A booted", lambda: pair.root_pid("A") not in (0, boot), SERVES_S)
    assert bench.active == "B"
    assert bench.writer.first_after("A", taken_ns) is None
    bench.is_unharmed()


def test_f32_of_two_that_are_forced_at_once_one_serves(bench: Bench) -> None:
    pair = bench.pair

    def force(node: Node) -> None:
        with contextlib.suppress(MiddlewareError):
            pair.call(node, "failover.force_master")

    presses = [threading.Thread(target=force, args=(node,)) for node in NODES]
    for press in presses:
        press.start()
    for press in presses:
        press.join(10)
    bench.is_unharmed()


@pytest.mark.parametrize(("first", "gap_s"), [("A", 0.0), ("A", 1.0), ("B", 1.0), ("B", 20.0)])
def test_f36_s1_of_two_that_get_power_again_exactly_one_has_the_pool(bench: Bench, first: Node, gap_s: float) -> None:
    pair = bench.pair
    second: Node = "B" if first == "A" else "A"
    for node in NODES:
        pair.power_off(node)
    pair.power_on(first)
    time.sleep(gap_s)
    pair.power_on(second)
    pair.wait_until("one has the pool", lambda: len(bench.importers.now.imported) == 1, SERVES_S)
    bench.is_unharmed()


@pytest.mark.parametrize("mode", ["hangs", "lies"])
def test_s3_s4_an_export_that_hangs_or_is_not_true_ends_the_owner_and_the_other_one_imports(
    bench: Bench, mode: str
) -> None:
    pair = bench.pair
    boot = pair.root_pid("A")
    wedge_zpool(pair, "A", mode)
    with contextlib.suppress(MiddlewareError):
        pair.call("A", "failover.become_passive")
    bench.writer.wait_for("B")
    pair.wait_until("A booted", lambda: pair.root_pid("A") not in (0, boot), SERVES_S)
    assert bench.active == "B"
    bench.is_unharmed()


def test_f18_an_owner_that_is_cut_off_from_everything_is_relieved_and_is_standby_again(bench: Bench) -> None:
    pair = bench.pair
    everything: tuple[Link, ...] = ("lan:A", "interlink", "shelf:A")
    pair.cut(*everything)
    taken_ns = bench.writer.wait_for("B")
    assert bench.importers.now.could_write == ("B",)
    pair.heal(*everything)
    assert bench.active == "B"
    assert bench.writer.first_after("A", taken_ns) is None
    bench.is_unharmed()


@pytest.mark.parametrize("stalled_s", [0.2, 1.0, 10.0])
def test_f6_a_middlewared_that_stands_still_moves_nothing_and_is_told_or_begins_anew(
    bench: Bench, stalled_s: float
) -> None:
    pair = bench.pair
    pid = pair.pid("A", "middlewared")
    os.kill(pid, signal.SIGSTOP)
    try:
        holds_for(lambda: bench.importers.now.imported == ("A",), stalled_s, "A alone has the pool")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    bench.writer.wait_for("A")
    assert bench.active == "A"
    assert (pair.pid("A", "middlewared") == pid) is (stalled_s < WATCHDOG_S)
    if stalled_s == 1.0:
        assert "StoodStill" in str(pair.call("A", "alert.list"))
    bench.is_unharmed()


def test_f14_s5_a_cut_interlink_moves_no_pool(bench: Bench) -> None:
    bench.pair.cut("interlink")
    holds_for(lambda: bench.importers.now.imported == ("A",), 5.0, "A alone has the pool")
    bench.writer.wait_for("A")
    bench.pair.heal("interlink")
    bench.is_unharmed()


def test_f15_an_owner_without_its_lan_exports_and_the_other_one_imports(bench: Bench) -> None:
    bench.pair.cut("lan:A")
    bench.writer.wait_for("B")
    bench.pair.heal("lan:A")
    assert bench.active == "B"
    bench.is_unharmed()


def test_f16_a_switch_that_dies_and_comes_back_moves_nothing(bench: Bench) -> None:
    bench.pair.cut("lan:B", "lan:A")
    holds_for(lambda: bench.importers.now.imported == ("A",), 5.0, "A alone has the pool")
    bench.pair.heal("lan:A", "lan:B")
    holds_for(lambda: bench.importers.now.imported == ("A",), 2.0, "A alone has the pool")
    assert bench.active == "A"
    bench.is_unharmed()


def test_f20_thirty_percent_loss_on_every_cable_moves_nothing(bench: Bench) -> None:
    pair = bench.pair
    pair.cut("lan:A", "lan:B", "interlink", way="lossy")
    holds_for(lambda: bench.importers.now.imported == ("A",), 20.0, "A alone has the pool")
    pair.heal("lan:A", "lan:B", "interlink")
    assert bench.active == "A"
    bench.is_unharmed()


def test_s13_with_failover_disabled_nobody_takes_the_pool_after_a_power_cut_of_both_until_one_is_forced(
    bench: Bench,
) -> None:
    pair = bench.pair
    pair.call("A", "failover.update", {"disabled": True})
    pair.wait_until("B knows", lambda: pair.sync("B").applied_seq == pair.sync("A").last_seq, SERVES_S)
    for node in NODES:
        pair.power_off(node)
    for node in NODES:
        pair.power_on(node)
    pair.wait_until("both stand by", lambda: [pair.role(n) for n in NODES] == ["BACKUP", "BACKUP"], SERVES_S)
    holds_for(lambda: bench.importers.now.imported == (), 4.0, "nobody has the pool")
    pair.force_master("B")
    pair.wait_until("B has the pool", lambda: bench.importers.now.imported == ("B",), SERVES_S)
    pair.call("B", "failover.update", {"disabled": False})
    bench.is_unharmed()
