"""The register of a shared disk. What every backend must do with it is in tests/contract/test_voter.py."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Denied, Granted, Register

NODES = st.sampled_from(["A", "B"])
STEPS = st.lists(st.tuples(st.sampled_from(["claim", "release", "beat"]), NODES, st.integers(0, 6), st.integers(0, 3)))


@given(STEPS)
def test_terms_never_fall_are_granted_once_and_a_denial_changes_nothing(
    steps: list[tuple[str, Node, int, int]],
) -> None:
    register, history, grants = Register(), [Register().holding], Counter[int]()
    for verb, node, term, back in steps:
        over = history[-1 - min(back, len(history) - 1)]
        if verb == "claim":
            after, answer = register.claim(node, term, over)
            grants[term] += isinstance(answer, Granted)
        elif verb == "release":
            after, answer = register.release(node, term)
        else:
            after, answer = register.write_beat(node, term, back)
        assert after.holding.term >= register.holding.term
        assert answer.holding == after.holding
        if isinstance(answer, Denied):
            assert after == register
        if verb == "beat" and isinstance(answer, Granted):
            assert register.holding.owner == node
            assert register.holding.term == term
        register = after
        history.append(register.holding)
    assert all(count == 1 for term, count in grants.items() if count), grants


def record(serial: int, *in_sync: Node) -> PairRecord:
    return PairRecord(term=1, owner="A", in_sync=in_sync, committed_seq=0, committed_hash=b"", serial=serial)


def test_a_record_that_was_overtaken_on_its_way_is_not_written_over_the_later_one() -> None:
    register, _ = Register().claim("A", 1, Register().holding)
    register, _ = register.write_record("A", record(2, "A"))
    register, answer = register.write_record("A", record(1, "A", "B"))
    assert isinstance(answer, Denied)
    assert register.record == record(2, "A")
