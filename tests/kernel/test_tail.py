from __future__ import annotations

from middlewared.kernel.event import START, Record, Stamp, seal
from middlewared.kernel.tail import NAMES_LIMIT, Tail, described
from middlewared.kernel.tenure import TermBegan

TAIL = Tail(node="B", digest="ab" * 32, first=1, last=3, n=3, at_ns=9, answered=1)


def records(actors: list[str]) -> list[Record]:
    at = START
    made: list[Record] = []
    for number, actor in enumerate(actors):
        event = TermBegan(owner="B", reason="", prev_last_seq=at.seq, in_sync=(), adopted=0)
        stamp = Stamp(term=1 + number // 2, origin="B", actor=actor, request_id="", wall_ns=100 + number)
        made.append(seal(event, at, stamp))
        at = made[-1].position
    return made


def test_a_tail_is_called_after_its_controller_and_its_digest() -> None:
    assert TAIL.id == "B-abababababababab"


def test_what_the_records_say_is_counted_and_named_once() -> None:
    told = described(TAIL, records(["eva", "bob", "eva"]))
    assert (told.terms, told.actors, told.kinds) == ((1, 2), ("eva", "bob"), {"term.begin": 3})
    assert (told.since_ns, told.until_ns, told.answered, told.id) == (100, 102, 1, TAIL.id)


def test_a_tail_of_many_hands_names_some_of_them() -> None:
    told = described(TAIL, records([f"user{number}" for number in range(NAMES_LIMIT + 9)]))
    assert len(told.actors) == NAMES_LIMIT
    assert told.kinds == {"term.begin": NAMES_LIMIT + 9}
