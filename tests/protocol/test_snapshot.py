"""A snapshot is pulled whole, in order, at a bounded rate, over lines that break."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.manifest import Manifest
from middlewared.protocol.snapshot import FAILURES, PAUSE_S, PIECE, Bucket, Fetch, GaveUp, Read, Take, Wait, Whole


def manifest(size: int, id_: str = "one") -> Manifest:
    return Manifest(
        id=id_, seq=5, term=1, hash=b"h", log_format=2, shape="s", digest="d", size=size, sha256="not looked at here"
    )


def test_it_is_taken_first_and_then_read_piece_by_piece() -> None:
    fetch = Fetch(0.0, rate_bytes_s=1e12)
    assert fetch.step(0.0) == Take()
    fetch.took(manifest(PIECE + 5))
    assert fetch.step(0.0) == Read("one", 0, PIECE)
    fetch.got(bytes(PIECE))
    assert fetch.step(1.0) == Read("one", PIECE, 5)
    fetch.got(bytes(5))
    assert fetch.step(1.0) == Whole(manifest(PIECE + 5))


def test_a_piece_that_did_not_come_is_asked_for_again_after_a_pause() -> None:
    fetch = Fetch(0.0)
    fetch.took(manifest(9))
    fetch.failed("the line is down", 1.0, gone=False)
    assert fetch.step(1.0) == Wait(1.0 + PAUSE_S)
    assert fetch.step(1.0 + PAUSE_S) == Read("one", 0, 9)


def test_a_snapshot_that_the_owner_no_longer_has_is_taken_anew_from_its_beginning() -> None:
    fetch = Fetch(0.0, rate_bytes_s=1e12)
    fetch.took(manifest(2 * PIECE))
    fetch.got(bytes(PIECE))
    fetch.failed("gone", 1.0, gone=True)
    assert fetch.step(3.0) == Take()
    fetch.took(manifest(7, "two"))
    assert fetch.step(3.0) == Read("two", 0, 7)


def test_it_is_given_up_after_so_many_failures_in_a_row() -> None:
    fetch = Fetch(0.0)
    for _ in range(FAILURES - 1):
        fetch.failed("away", 0.0, gone=False)
    fetch.took(manifest(9))
    for _ in range(FAILURES):
        assert not isinstance(fetch.step(9e9), GaveUp)
        fetch.failed("away", 0.0, gone=False)
    assert fetch.step(9e9) == GaveUp("away")


@given(sizes=st.lists(st.integers(1, 100), max_size=50), rate=st.integers(1, 1000))
def test_no_more_than_the_rate_and_one_burst_ever_goes(sizes: list[int], rate: int) -> None:
    bucket = Bucket(rate, 100, 0.0)
    now, sent = 0.0, 0
    for size in sizes:
        now = max(now, bucket.ready_at(size, now))
        assert bucket.ready_at(size, now) <= now + 1e-6
        bucket.took(size)
        sent += size
        assert sent <= 100 + rate * now + 1e-3
