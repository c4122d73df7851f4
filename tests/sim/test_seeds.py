"""Worlds that went wrong once, by what happened in them. The mutant of the same bug is found by the same seed."""

from __future__ import annotations

import pytest

from middlewared.sim.mutants import MUTANTS
from middlewared.sim.seeds import live

WENT_WRONG = {
    "believe-one-disk": 176,
    "cut-what-is-under-way": 185,
    "refuse-by-what-may-be-cut": 245,
}


@pytest.mark.parametrize(("mutant", "seed"), WENT_WRONG.items())
def test_what_went_wrong_once_goes_well(mutant: str, seed: int) -> None:
    assert mutant in {m.name for m in MUTANTS}
    assert live(seed).violations == ()
