"""Seeded bugs are found, and it is said which are not."""

from __future__ import annotations

import pytest

from middlewared.sim.hunt import NAMED, hunt_in_a_child, main
from middlewared.sim.mutants import QUICK


def test_one_seeded_bug_is_found() -> None:
    found = hunt_in_a_child(NAMED[QUICK[0]], seeds=40)
    assert found.seed is not None
    assert found.checker.startswith("I")


def test_a_bug_that_no_seed_found_is_said_and_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", QUICK[0], "--seeds", "0"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == [QUICK[0], "NOT", "FOUND"]
    assert last.startswith("0 of 1 found, 0 seeds, ")


@pytest.mark.full
def test_the_quick_ones_are_found() -> None:
    assert main(["--quick"]) == 0
