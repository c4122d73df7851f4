"""What is known of a request whose records wait, however few of them are committed."""

from __future__ import annotations

from middlewared.engine.requests import Requests
from middlewared.kernel.event import Position, Record
from middlewared.kernel.outcomes import Outcomes

KEY = ("r", "eva")


def record(seq: int, request_id: str = "r", term: int = 1) -> Record:
    return Record(seq, term, "A", "k", 1, "eva@10.0.0.5:1", request_id, 0, b"{}", b"", b"")


def begun() -> Requests:
    requests = Requests()
    requests.begin(Outcomes())
    return requests


def test_a_request_waits_at_its_last_record_and_is_committed_with_it() -> None:
    requests, records = begun(), [record(1), record(2)]
    requests.follow(records)
    seen = requests.find(KEY)
    assert seen is not None
    assert (seen.outcome.first, seen.outcome.last, seen.at) == (1, 2, Position(2, 1, b""))
    requests.committed(records)
    seen = requests.find(KEY)
    assert seen is not None
    assert (seen.outcome.first, seen.outcome.last, seen.at) == (1, 2, None)


def test_a_request_of_which_only_the_first_record_is_committed_waits_for_the_rest_as_one() -> None:
    for asked_before in (False, True):
        requests = begun()
        requests.follow([record(1), record(2)])
        if asked_before:
            requests.find(KEY)
        requests.committed([record(1)])
        seen = requests.find(KEY)
        assert seen is not None
        assert (seen.outcome.first, seen.outcome.last, seen.at) == (1, 2, Position(2, 1, b""))


def test_what_was_cut_is_not_known_whether_anybody_asked_before_or_not() -> None:
    for asked_before in (False, True):
        requests = begun()
        requests.follow([record(1, "other"), record(2)])
        if asked_before:
            requests.find(KEY)
        requests.cut_after(1)
        assert requests.find(KEY) is None
        assert requests.find(("other", "eva")) is not None
