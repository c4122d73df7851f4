"""Who is active, in every small world: a part of them here, all of them with --full and by `make worlds`."""

from __future__ import annotations

from collections import Counter

import pytest

from middlewared.protocol.failover import RULES
from tests.protocol.worlds import permits
from tests.protocol.worlds.mistakes import MISTAKES, WHERE
from tests.protocol.worlds.safety import Judge
from tests.protocol.worlds.world import worlds

SOME = 199
FEW = 499
FEW_ODD = 31
NOT_IN_WORLDS = {"UNCONFIGURED", "SINGLE", "VOTERLESS"}
"""They decide by one fact alone; the table of test_failover.py has them."""


def judged(stride: int, judge: Judge) -> Counter[str]:
    return Counter(violation.statement for world in worlds(stride) for violation in judge.violations(world))


def test_nothing_is_violated_in_some_worlds_and_every_rule_decides() -> None:
    judge = Judge()
    assert judged(SOME, judge) == {}
    assert set(judge.hits) == {rule.name for rule in RULES} - NOT_IN_WORLDS


def test_what_may_be_done_follows_from_the_world() -> None:
    assert Counter(row for world in worlds(FEW) for row in permits.faults(world)) == {}


def test_what_may_be_done_by_a_wrong_side_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "status_of", lambda world, side: "MASTER")
    permits._faults.cache_clear()
    rows = {row for world in worlds(FEW) for row in permits.faults(world)}
    permits._faults.cache_clear()
    assert {"T3", "T12", "T20"} <= rows


@pytest.mark.full
def test_nothing_is_violated_in_any_world() -> None:
    judge = Judge()
    assert judged(1, judge) == {}
    assert Counter(row for world in worlds() for row in permits.faults(world)) == {}
    assert 800_000 < judge.worlds <= 1_000_000


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_table_is_found(mistake: str) -> None:
    judge = Judge(MISTAKES[mistake])
    looked_at = worlds(FEW_ODD, WHERE[mistake]) if mistake in WHERE else worlds(FEW)
    found = (violation for world in looked_at for violation in judge.violations(world))
    assert next(found, None) is not None
