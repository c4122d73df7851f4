"""What a fault would lead to, as the rules that decide say it: asked of the owner, of the standby, of one alone."""

from __future__ import annotations

import msgspec
import pytest

from middlewared.kernel.facts import Node
from middlewared.kernel.outlook import Forecast
from middlewared.protocol.dry_run import FAULTS, dry_run
from tests.protocol.failover_views import LONG_AGO, NOW, heard, owner, settings, view, word

B_TIME = 50.0
"""The two clocks have nothing in common."""


def of_the_owner(fault: str, **changes: object) -> Forecast:
    return dry_run(fault, owner(**changes), NOW, view(), NOW)


@pytest.mark.parametrize(
    ("fault", "after", "at_least_s", "at_most_s"),
    [
        ("interlink", "A", 0, 0),
        ("interlink_silent", "A", 0, 0),
        ("partition", "A", 0, 0),
        ("switch", "A", 0, 0),
        ("lan_peer", "A", 0, 0),
        ("peer_dies", "A", 0, 0),
        ("peer_freezes", "A", 0, 0),
        ("shelf_peer", "A", 0, 0),
        ("i_die", "B", 0.2, 0.4),
        ("i_freeze", "B", 1.2, 1.4),
        ("lan", "B", 0.0, 0.2),
        ("shelf", "B", 0.0, 3.0),
        ("pool_suspends", "B", 0.0, 0.2),
    ],
)
def test_each_fault_of_a_healthy_pair_ends_as_the_page_says(
    fault: str, after: Node, at_least_s: float, at_most_s: float
) -> None:
    found = of_the_owner(fault)
    assert (found.before, found.after, found.peer_known) == ("A", after, True), found
    assert at_least_s <= found.unowned_s <= at_most_s, found


def test_every_fault_has_its_row_above() -> None:
    for fault in FAULTS:
        assert of_the_owner(fault).text.startswith("If ")


def test_a_takeover_names_its_rule_and_when() -> None:
    found = of_the_owner("i_die")
    assert found.text.startswith("If A loses power: B takes over 0.3 s later (GONE_WITHOUT_CARRIER)"), found.text
    assert [(step.node, step.verdict) for step in found.steps] == [("B", "CLAIM"), ("B", "OWN")]


def test_the_standby_says_the_same_of_the_owners_death() -> None:
    found = dry_run("peer_dies", view(), NOW, owner(), NOW)
    assert (found.before, found.after) == ("A", "B")


def test_while_failover_is_disabled_nobody_takes_over() -> None:
    off = settings(disabled=True)
    found = dry_run("i_die", owner(settings=off), NOW, view(settings=off), NOW)
    assert found.after is None and "nobody takes over" in found.text


def test_a_frozen_owner_with_pools_ends_itself_only_when_it_runs_again() -> None:
    assert of_the_owner("i_freeze", imported=("1",)).ends == ()


def test_a_peer_that_says_nothing_is_supposed_to_see_what_it_should() -> None:
    found = dry_run("i_die", owner(), NOW, None, 0.0)
    assert not found.peer_known and found.after == "B"


def test_the_timeout_of_a_lost_network_is_waited_for() -> None:
    late = settings(timeout_s=5.0)
    found = dry_run("lan", owner(settings=late), NOW, view(settings=late), NOW)
    claim = next(step for step in found.steps if step.verdict == "RESIGN")
    assert 5.0 <= claim.after_s <= 5.5


def test_two_clocks_are_never_compared() -> None:
    shift = NOW - B_TIME
    there = heard(0.02 + shift, 0.02 + shift, word(owner=True, term=5))
    past = LONG_AGO - shift
    there = msgspec.structs.replace(there, since=past, carrier_since=past, links_since=past)
    b = view(booted_at=past, heard=there, heard_since=past, disk_at=NOW - 0.05 - shift, disk_since=past)
    assert dry_run("i_die", owner(), NOW, b, B_TIME).steps == of_the_owner("i_die").steps
