"""Any one call fails with EIO or ENOSPC, or every call from there on: nothing that was answered is lost."""

from __future__ import annotations

import errno
import random

import pytest

from tests.crash.enumeration import judge_all
from tests.crash.failing import CALLS, ERRORS, each_call, ending_of, fail_each
from tests.crash.faults import LIVES
from tests.crash.recorded import Lives

EVERY = 61
"""In the quick form each so many-th call fails, and of each life each so many-hundredth crash is opened."""
OF_THE_CONTROLLER, OF_A_WORKLOAD = 7, 21
"""The same in `make test-full`; `make crash` fails each."""
WORKLOADS = [name for name in LIVES if name != "faults"]

NEW = {"cut": "state.db.new", "installed": "state.db.beside"}


def some_of(name: str) -> int:
    """Which calls of the life fail in the quick form: others in every life."""
    return random.Random(name).randrange(1, 6)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_once_loses_nothing_and_the_controller_goes_on(lives: Lives, call: str, error: str) -> None:
    failed = fail_each(lives, "faults", call, error, every=EVERY, judged=1, crashes=30 * EVERY)
    assert failed.wrong == []
    assert set(failed.endings) == {"done"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_call_that_fails_ends_what_is_under_way_with_a_reason_or_not_at_all(lives: Lives, name: str) -> None:
    for turn, call in enumerate(CALLS):
        error = list(ERRORS)[turn % len(ERRORS)]
        failed = fail_each(lives, name, call, error, every=EVERY, first=some_of(name), judged=2, crashes=30 * EVERY)
        assert failed.wrong == []


def test_projections_that_do_not_reach_the_disk_as_they_are_closed_do_not_take_their_place(lives: Lives) -> None:
    """SQLite tells nobody of a checkpoint that fails in a close: half a file took the name, without its -wal file."""
    endings = {
        ending_of(life)
        for name in ("cut", "installed")
        for life in each_call(lives, name, "write", f"path={NEW[name]},errno={errno.EIO}", 3)
    }
    assert endings == {"PortFailed", "done"}, "done where the next connection that is closed makes up for it"


@pytest.mark.full
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", LIVES)
def test_more_calls_of_each_life_may_fail(lives: Lives, name: str, error: str) -> None:
    every = OF_THE_CONTROLLER if name == "faults" else OF_A_WORKLOAD
    for call in CALLS:
        assert fail_each(lives, name, call, error, every=every, first=some_of(name)).wrong == []


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_disk_that_fails_for_good_ends_the_controller_with_a_reason_and_keeps_what_was_answered(
    lives: Lives, call: str, error: str
) -> None:
    for life in each_call(lives, "faults", call, f"count=0,errno={ERRORS[error]}", EVERY):
        assert life.last.startswith("ended: ")
        assert judge_all("faults", life, seed=life.seen, every=20 * EVERY).wrong == []


def test_a_write_that_puts_half_of_its_bytes_on_a_full_disk_is_made_again(lives: Lives) -> None:
    fault = f"path=log.db-wal,short=1,count=2,errno={errno.ENOSPC}"
    for life in each_call(lives, "faults", "write", fault, EVERY):
        assert life.last == "done"
        assert judge_all("faults", life, seed=life.seen, every=30 * EVERY).wrong == []
