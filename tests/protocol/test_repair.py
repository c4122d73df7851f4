"""The table at the top of protocol.repair, line by line."""

from __future__ import annotations

import pytest

from middlewared.protocol.checkpoint import Disagreement, Verdict
from middlewared.protocol.repair import REFUSALS, Repair, Stage
from middlewared.protocol.replication_values import FetchSnapshot, Refold, Refolded, StopApplying

DIFFERS = Disagreement(seq=256, here="x", there="y")


@pytest.fixture
def repair() -> Repair:
    return Repair()


def differ(repair: Repair) -> tuple[object, ...]:
    return repair.judged(Verdict.DIFFERENT, DIFFERS)


def test_the_log_is_tried_first_and_once(repair: Repair) -> None:
    assert differ(repair) == (Refold(256, "y"),)
    assert differ(repair) == ()
    assert repair.refolded(Refolded(256, "y", True)) == ()
    assert repair.stage.value == Stage.LOG_TRIED.value
    assert repair.judged(Verdict.EQUAL, None) == ()
    assert repair.stage.value == Stage.WELL.value


def test_a_log_that_gives_the_same_wrong_state_leads_to_the_snapshot(repair: Repair) -> None:
    differ(repair)
    assert repair.refolded(Refolded(256, "x", False)) == (FetchSnapshot(),)
    assert differ(repair) == ()
    assert repair.installed() == ()
    assert repair.judged(Verdict.EQUAL, None) == ()
    assert repair.stage.value == Stage.WELL.value


def test_a_state_that_differs_again_after_the_log_leads_to_the_snapshot(repair: Repair) -> None:
    differ(repair)
    repair.refolded(Refolded(256, "y", True))
    assert differ(repair) == (FetchSnapshot(),)


def test_a_state_that_differs_again_after_the_snapshot_is_given_up(repair: Repair) -> None:
    differ(repair)
    repair.refolded(Refolded(256, "x", False))
    repair.installed()
    (stop,) = differ(repair)
    assert isinstance(stop, StopApplying)
    assert "at seq 256" in stop.why
    repair.reset()
    assert repair.stage.value == Stage.STOPPED.value
    assert differ(repair) == ()


def test_a_snapshot_that_is_refused_is_asked_for_so_many_times(repair: Repair) -> None:
    differ(repair)
    repair.refolded(Refolded(256, "x", False))
    for _ in range(REFUSALS - 1):
        assert repair.refused("its bytes") == (FetchSnapshot(),)
    assert repair.refused("its bytes") == (
        StopApplying("the state differs from the owner's, and its snapshot is refused: its bytes"),
    )


def test_a_snapshot_that_was_not_to_be_had_is_asked_for_at_the_next_difference(repair: Repair) -> None:
    differ(repair)
    repair.refolded(Refolded(256, "x", False))
    assert repair.not_fetched() == ()
    assert differ(repair) == (Refold(256, "y"),)


def test_what_ends_after_this_controller_became_the_owner_changes_nothing(repair: Repair) -> None:
    differ(repair)
    repair.reset()
    assert repair.refolded(Refolded(256, "x", False)) == ()
    assert repair.refused("late") == ()
    assert repair.installed() == ()
    assert repair.stage.value == Stage.WELL.value
