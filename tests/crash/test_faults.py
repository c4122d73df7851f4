"""Any one call fails with EIO or ENOSPC, or every call from there on: nothing that was answered is lost."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.crash.enumeration import judge_all
from tests.crash.recorded import Life, Lives

CALLS = ("write", "sync", "truncate", "open", "rename", "unlink", "mkdir")
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
EVERY = 31
"""In the quick form each so many-th call fails, and of each life each so many-hundredth crash is opened."""


def each_call(lives: Lives, call: str, fault: str, every: int) -> Iterator[Life]:
    """A life for each call that there is to fail."""
    nth = 1
    while (life := lives.live(f"call={call},nth={nth},{fault}")).seen >= nth:
        yield life
        nth += every


def fail_one(lives: Lives, call: str, number: int, *, every: int, judged: int = 1, crashes: int) -> int:
    """Returns how many calls were made to fail. judged: of each so many-th life some crashes are opened."""
    count = 0
    for count, life in enumerate(each_call(lives, call, f"errno={number}", every), 1):
        assert life.last == "done", f"{call} {count}"
        if count % judged == 0:
            assert judge_all("faults", life, seed=count, every=crashes).wrong == []
    return count


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_once_loses_nothing_and_the_controller_goes_on(lives: Lives, call: str, error: str) -> None:
    assert fail_one(lives, call, ERRORS[error], every=EVERY, crashes=30 * EVERY) > 0


@pytest.mark.full
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_each_call_may_fail_once(lives: Lives, call: str, error: str) -> None:
    assert fail_one(lives, call, ERRORS[error], every=1, judged=6, crashes=300) > 0


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_disk_that_fails_for_good_ends_the_controller_with_a_reason_and_keeps_what_was_answered(
    lives: Lives, call: str, error: str
) -> None:
    for life in each_call(lives, call, f"count=0,errno={ERRORS[error]}", EVERY):
        assert life.last.startswith("ended: ")
        assert judge_all("faults", life, seed=life.seen, every=20 * EVERY).wrong == []


def test_a_write_that_puts_half_of_its_bytes_on_a_full_disk_is_made_again(lives: Lives) -> None:
    fault = f"path=log.db-wal,short=1,count=2,errno={errno.ENOSPC}"
    for life in each_call(lives, "write", fault, EVERY):
        assert life.last == "done"
        assert judge_all("faults", life, seed=life.seen, every=30 * EVERY).wrong == []
