"""Which rows there are of a fault at every step of a change of roles."""

from __future__ import annotations

from collections import Counter

from tests.failover.crash_points import Row, rows


def test_each_way_to_change_roles_has_its_rows() -> None:
    everything = rows(frozenset(), frozenset({"crash", "freeze", "partition", "kill", "returns"}))
    assert Counter(row.plan for row in everything) == {"handover": 48, "promotion": 24, "takeover": 18}


def test_who_lost_its_power_in_a_takeover_can_only_return() -> None:
    chosen = list(rows(frozenset({"takeover:import"}), frozenset({"crash", "partition", "returns"})))
    assert chosen == [
        Row(plan="takeover", step="import", hit="doer", kind="crash"),
        Row(plan="takeover", step="import", hit="doer", kind="partition"),
        Row(plan="takeover", step="import", hit="other", kind="partition"),
        Row(plan="takeover", step="import", hit="other", kind="returns"),
    ]
