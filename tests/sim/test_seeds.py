"""Worlds in which something went wrong once, or in which a seeded bug shows, beyond those that each test run lives
through.

A change of the product or of the simulator moves the worlds: what a seed held then, it may hold no more. The bug itself
is held by a test of its own.
"""

from __future__ import annotations

import pytest

from middlewared.sim.seeds import live

SEEDS = {
    1534: "a fenced that had just started gave its term up and did not say so: a pool was imported on free disks",
    120: "an owner that lacked one pool exported the others while clients were there",
    1457: "a disk that the loser of a ballot had got in the winner's own term was left to it",
    292: "an export of a dead process took a pool away from an owner that served",
    405: "an owner that was forced to serve without its pool never imported it",
    1359: "an owner whose successor did not come took no writes",
    394: "what was not committed yet was answered",
    739: "a record that was overtaken was written over the later one",
    788: "an owner that was outranked did not step down",
    1497: "an owner that opened at the end of its time to gather was never followed",
}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_went_wrong_once_goes_well(seed: int) -> None:
    assert live(seed).violations == ()
