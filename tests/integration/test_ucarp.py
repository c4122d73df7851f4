"""Plain CARP against a live ucarp, both ways, on LANs of network namespaces. Needs root.

A scenario is mostly the waiting for ucarp's dead times. Each has a LAN of its own, so they go on side by side.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import Host, Lan, Watcher, holds_for, need_root, until

VIP = "192.0.2.10"
OUR_MAC = "00:00:5e:00:01:07"
MASTER_DOWN_S = 8.0
"""3 x advbase and the skew make up to 4 s; ucarp adds up to 2 s, because it captures in batches of 1 s."""

pytestmark = [pytest.mark.root, pytest.mark.full]


def start_ucarp(host: Host, advskew: int, directory: Path) -> subprocess.Popen[str]:
    """ucarp puts the address on eth0 when it becomes master and takes it away when it becomes backup."""
    scripts = {}
    for name, verb in (("up", "add"), ("down", "del")):
        scripts[name] = directory / f"{host.name}-{name}"
        scripts[name].write_text(f"#!/bin/sh\nexec ip addr {verb} {VIP}/32 dev eth0\n")
        scripts[name].chmod(0o755)
    return host.start(
        *("ucarp", "-i", "eth0", "-s", host.address, "-v", "7", "-p", "secret", "-a", VIP),
        *("-b", "1", "-k", str(advskew), "-u", str(scripts["up"]), "-d", str(scripts["down"]), "-z"),
    )


def start_ours(host: Host, advskew: int) -> subprocess.Popen[str]:
    return host.start(
        *(sys.executable, "-m", "middlewared.carpd", "--plain", "eth0", "7", f"{VIP}/24", "secret"),
        *("--advskew", str(advskew)),
    )


def behind_a_ucarp_master(lan: Lan, watcher: Watcher, directory: Path) -> None:
    ucarp = start_ucarp(lan.a, 0, directory)
    until(lambda: lan.a.has(VIP), MASTER_DOWN_S, "ucarp is master")
    start_ours(lan.b, 50)
    until(lambda: "carp7" in lan.b.ip("link"), 3, "our macvlan is there")
    holds_for(lambda: not lan.b.has(VIP), 4.5, "we stay backup behind the better master")
    ucarp.kill()
    lan.a.ip("addr", "del", f"{VIP}/32", "dev", "eth0")
    took = until(lambda: lan.b.has(VIP), MASTER_DOWN_S, "we hold the VIP")
    assert took < 3.6
    assert watcher.ping(VIP, wait_s=1) == OUR_MAC


def ahead_of_ucarp(lan: Lan, watcher: Watcher, directory: Path) -> None:
    ours = start_ours(lan.a, 0)
    until(lambda: watcher.ping(VIP) == OUR_MAC, MASTER_DOWN_S, "we hold the VIP")
    start_ucarp(lan.b, 100, directory)
    holds_for(lambda: not lan.b.has(VIP), 6, "ucarp stays backup")
    ours.kill()
    lapsed = until(lambda: not lan.a.has(VIP), 1.5, "our lease lapses")
    assert lapsed < 1.3
    until(lambda: lan.b.has(VIP), MASTER_DOWN_S, "ucarp is master")
    answered = until(lambda: watcher.ping(VIP) not in (None, OUR_MAC), 5, "ucarp answers")
    assert answered < 5


def an_orderly_end(lan: Lan, watcher: Watcher, directory: Path) -> None:
    ours = start_ours(lan.a, 100)
    until(lambda: lan.a.has(VIP), MASTER_DOWN_S, "we hold the VIP")
    worse = start_ucarp(lan.b, 200, directory)
    holds_for(lambda: lan.a.has(VIP), 2, "a worse backup changes nothing")
    ours.send_signal(signal.SIGTERM)
    until(lambda: lan.b.has(VIP), 3, "ucarp follows a master that bows out before its dead time ends")
    assert ours.wait(5) == 0
    assert "carp7" not in lan.a.ip("link")
    start_ours(lan.a, 0)
    until(lambda: "carp7" in lan.a.ip("link"), 3, "our macvlan is there again")
    holds_for(lambda: not lan.a.has(VIP), 2, "a better backup waits for the master's silence")
    worse.kill()


SCENARIOS = (behind_a_ucarp_master, ahead_of_ucarp, an_orderly_end)


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Every scenario by its name, started."""
    need_root()
    lans: list[Lan] = []
    watchers: list[Watcher] = []
    try:
        for _ in SCENARIOS:
            lans.append(Lan())
            lans[-1].build()
            watchers.append(Watcher(lans[-1].client))
        with ThreadPoolExecutor(len(SCENARIOS)) as threads:
            yield {
                scenario.__name__: threads.submit(scenario, lan, watcher, tmp_path_factory.mktemp(scenario.__name__))
                for scenario, lan, watcher in zip(SCENARIOS, lans, watchers, strict=True)
            }
    finally:
        for watcher in watchers:
            watcher.close()
        for lan in lans:
            lan.remove()


def test_behind_a_ucarp_master_we_are_backup_and_take_over_when_it_dies(under_way: dict[str, Future[None]]) -> None:
    under_way["behind_a_ucarp_master"].result(60)


def test_behind_us_ucarp_is_backup_and_takes_over_when_we_die(under_way: dict[str, Future[None]]) -> None:
    under_way["ahead_of_ucarp"].result(60)


def test_a_worse_ucarp_changes_nothing_and_an_orderly_end_is_noticed_at_once(
    under_way: dict[str, Future[None]],
) -> None:
    under_way["an_orderly_end"].result(60)
