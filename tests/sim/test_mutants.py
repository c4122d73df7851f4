"""The seeded bugs fit the code."""

from __future__ import annotations

import pytest

from middlewared.sim.hunt import NotThere, mutated
from middlewared.sim.mutants import MUTANTS, QUICK, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_text_is_where_it_says_once_and_is_python(mutant: Mutant) -> None:
    compile(mutated(mutant), mutant.file, "exec")


def test_a_mutant_whose_text_is_gone_is_named() -> None:
    with pytest.raises(NotThere, match="gone: its text occurs 0 times"):
        mutated(Mutant("gone", "middlewared/sim/world.py", "no such text", "", ""))


def test_no_two_mutants_have_one_name_and_the_quick_ones_are_among_them() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert set(QUICK) < set(names)
