from __future__ import annotations

from middlewared_plugins.network.configuration import Updated

from middlewared.kernel.event import START, Record, Stamp, seal
from tests.campaign.history import Level, Verdict, Write, check


def log(*values: str, ids: tuple[str, ...] = ()) -> list[Record]:
    records: list[Record] = []
    for number, value in enumerate(values):
        id_ = ids[number] if ids else f"request-{number}"
        stamp = Stamp(term=1, origin="A", actor="root@here", request_id=id_, wall_ns=0)
        records.append(seal(Updated(domain=value), records[-1].position if records else START, stamp))
    return records


def write(value: str, level: Level = "pair", sent: float = 0.0, answered: float = 9.0, seq: int = 0) -> Write:
    return Write(client=0, value=value, level=level, sent=sent, answered=answered, seq=seq, said="no")


def verdict(writes: list[Write], records: list[Record], aside: list[Record] | None = None) -> Verdict:
    return check(writes, {"A": records, "B": records}, aside or [])


def test_a_history_in_which_every_answer_is_true_is_clean() -> None:
    writes = [write("a", seq=1), write("b", "single", seq=2), write("c", "unknown"), write("d", "refused")]
    assert verdict(writes, log("a", "b")).clean
    assert verdict(writes, log("a", "b", "c")).clean


def test_a_write_that_was_answered_and_is_gone_is_lost() -> None:
    assert verdict([write("a", seq=7)], log()).lost == ("a was answered at level pair, seq 7, and is gone",)


def test_quarantine_explains_a_write_at_level_single_and_no_other() -> None:
    assert verdict([write("a", "single")], log(), aside=log("a")).clean
    assert not verdict([write("a", "pair")], log(), aside=log("a")).clean


def test_a_write_that_stands_elsewhere_than_it_was_answered_is_found() -> None:
    assert verdict([write("a", seq=7)], log("a")).lost == ("a was answered with seq 7 and stands at 1",)


def test_a_write_that_was_carried_out_twice_is_found_by_its_value_and_by_its_request() -> None:
    found = verdict([write("a"), write("b")], log("a", "a", "b", ids=("x", "y", "x"))).duplicated
    assert found == ("a stands in the log 2 times", "request x stands in the log 2 times")


def test_a_record_that_nobody_asked_for_is_unexplained() -> None:
    assert verdict([], log("a")).unexplained == ("seq 1 holds a, which no client sent",)


def test_a_write_that_was_refused_and_done_is_unexplained() -> None:
    assert verdict([write("a", "refused")], log("a")).unexplained == ("a was refused (no) and stands at seq 1",)


def test_the_order_that_the_clients_saw_must_be_the_order_of_the_log() -> None:
    first, second = write("a", sent=0, answered=1), write("b", sent=2, answered=3)
    assert verdict([first, second], log("a", "b")).clean
    assert verdict([first, second], log("b", "a")).unexplained == (
        "b stands at seq 1, before one that was answered before it was sent",
    )


def test_writes_that_overlapped_may_stand_in_either_order() -> None:
    both = [write("a", sent=0, answered=3), write("b", sent=2, answered=4)]
    assert verdict(both, log("a", "b")).clean
    assert verdict(both, log("b", "a")).clean


def test_logs_that_differ_are_unexplained() -> None:
    assert check([write("a")], {"A": log("a"), "B": log()}, []).unexplained == ("the log of B differs",)
