"""The seeded bugs fit the code, and the quickest of them are found."""

from __future__ import annotations

import pytest

from middlewared.sim.mutants import MUTANTS, QUICK, Mutant, NotThere, hunt_in_a_child, main, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_text_is_where_it_says_and_is_python(mutant: Mutant) -> None:
    compile(mutated(mutant), mutant.file, "exec")


def test_a_mutant_whose_text_is_gone_is_named() -> None:
    with pytest.raises(NotThere, match="gone: its text occurs 0 times"):
        mutated(Mutant("gone", "middlewared/sim/world.py", "no such text", "", ""))


def test_one_seeded_bug_is_found() -> None:
    found = hunt_in_a_child(next(mutant for mutant in MUTANTS if mutant.name == QUICK[0]), seeds=40)
    assert found.seed is not None
    assert found.checker.startswith("I")


@pytest.mark.full
def test_the_quick_ones_are_found() -> None:
    assert main(["--quick"]) == 0
