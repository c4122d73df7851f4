"""Whole worlds from seeds, and that a seed is one world."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.pool import Pool

import pytest

from middlewared.sim.seeds import Tally, live, replay
from middlewared.sim.world import World

SEEDS = 100
AT_ONCE = 25


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    with get_context("spawn").Pool() as pool:
        yield pool


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_promise_is_broken_whatever_fails(processes: Pool, first: int) -> None:
    tally = Tally()
    for outcome in processes.imap(live, range(first, first + AT_ONCE)):
        tally.add(outcome)
    assert [(outcome.violations, replay(outcome.seed)) for outcome in tally.failed] == []
    assert sum(tally.faults.values()) > 10 * AT_ONCE / 4
    assert tally.answered > AT_ONCE


@pytest.mark.parametrize("hash_seed", ["0", "1", "77"])
def test_a_seed_is_the_same_world_to_the_byte_in_every_process(hash_seed: str) -> None:
    code = (
        "from middlewared.sim.world import World\n"
        "for seed in (3, 14): print(World(seed, keep_trace=False).run().sha256)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [World(seed, keep_trace=True).run().sha256 for seed in (3, 14)]


def test_without_faults_the_pair_is_in_sync_within_seconds_and_every_write_is_answered() -> None:
    world = World(1, swarm=False)
    outcome = world.run()
    assert outcome.violations == ()
    assert {operation.outcome for operation in world.operations} <= {"ok", "refused", "unknown"}
    assert {answer.level for op in world.operations for answer in op.given if answer.outcome == "ok"} >= {"pair"}
