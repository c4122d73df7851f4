"""Who is active: every small world from both sides."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol.failover import decide
from middlewared.protocol.failover_view import View, Windows
from tests.protocol.failover_views import LONG_AGO, NOW, disks, heard, settings, unreadable, view, word


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is so, from which both views follow. since_s: how long it has been so.

    believes: who thinks that it owns, and in which term. frozen: does nothing and says nothing. disks: who holds a
    majority, in term 5. cable: whether each controller reaches the disks.
    """

    believes: tuple[tuple[Node, int], ...]
    disks: Node | None
    frozen: Node | None
    interlink: bool
    lan: bool
    cable: tuple[bool, bool]
    disabled: bool
    settled: tuple[bool, bool]
    since_s: float


def worlds() -> Iterator[World]:
    beliefs: list[tuple[tuple[tuple[Node, int], ...], Node | None]] = [
        ((), None),
        ((), "A"),
        ((), "B"),
        ((("A", 5),), "A"),
        ((("B", 5),), "B"),
        ((("A", 4), ("B", 5)), "B"),  # A slept while B took the term
        ((("B", 4), ("A", 5)), "A"),
        ((("A", 4),), "B"),  # B won and is about to own
    ]
    nodes: list[Node | None] = [None, "A", "B"]
    yes_no = (True, False)
    pairs = list(itertools.product(yes_no, yes_no))
    for (believes, held), frozen, interlink, lan, cable, disabled, settled, since_s in itertools.product(
        beliefs, nodes, yes_no, yes_no, pairs, yes_no, pairs, (0.05, 0.5, 1.3, 30.0)
    ):
        yield World(
            believes=believes,
            disks=held,
            frozen=frozen,
            interlink=interlink,
            lan=lan,
            cable=cable,
            disabled=disabled,
            settled=settled,
            since_s=since_s,
        )


def seen_by(node: Node, world: World) -> View:
    """The view of one side, with every age that follows from the world."""
    peer = other(node)
    mine, theirs = dict(world.believes).get(node), dict(world.believes).get(peer)
    cable = world.cable[0 if node == "A" else 1]
    peer_lives = world.frozen != peer
    peer_beats = peer_lives and theirs is not None and world.disks == peer and world.cable[0 if peer == "A" else 1]
    age_s = world.since_s
    voters = disks(world.disks, world.disks, world.disks)
    peers_word = word(owner=theirs is not None, term=theirs or 4, hears_us=world.frozen != node)
    peer_settled = world.settled[0 if peer == "A" else 1]
    return view(
        node=node,
        settings=settings(disabled=world.disabled),
        settled=world.settled[0 if node == "A" else 1],
        booted_at=NOW - age_s,
        owns=mine is not None,
        term=mine or 5,
        owned_term=mine or 0,
        confirmed_at=NOW - (0.05 if cable and world.disks == node else age_s),
        voters=voters if cable else unreadable(voters, 3),
        heard=heard(
            0.02 if world.interlink and peer_lives else age_s,
            0.02 if world.lan and peer_lives and theirs is not None else age_s,
            msgspec.structs.replace(peers_word, settled=peer_settled),
        ),
        disk_at=None if mine is not None else NOW - (0.05 if peer_beats and cable else age_s),
        disk_since=LONG_AGO if cable else None,
        peer_idle_since=NOW - age_s if theirs is None else None,
    )


Outcome = Literal["wait", "single", "own", "stand by", "claim", "resign"]


def outcomes(world: World) -> dict[Node, Outcome]:
    """What each side that is not frozen is told."""
    nodes: tuple[Node, Node] = ("A", "B")
    return {node: decide(seen_by(node, world), NOW).verdict.value for node in nodes if node != world.frozen}


def test_no_two_sides_are_told_to_own_unless_the_loser_cannot_know_yet() -> None:
    counted = Counter[str]()
    for world in worlds():
        told = outcomes(world)
        counted["worlds"] += 1
        if list(told.values()) != ["own", "own"]:
            continue
        counted["both own"] += 1
        loser: Node = "A" if world.disks == "B" else "B"
        # The disks, which refuse all that it writes, are out of its reach, and its lease has not passed.
        assert not world.cable[0 if loser == "A" else 1], world
        assert not world.interlink, world
        assert world.since_s <= Windows().lease_s, world
    assert counted["worlds"] > 5000
    assert counted["both own"], "no world in which the loser cannot know yet: the worlds are too few"


def test_a_claim_is_never_told_against_an_owner_that_shows_itself() -> None:
    claims = 0
    for world in worlds():
        for node, told in outcomes(world).items():
            peer = other(node)
            if told != "claim" or peer == world.frozen or not dict(world.believes).get(peer):
                continue
            claims += 1
            shows = world.interlink or world.lan
            beats = world.disks == peer and world.cable[0 if peer == "A" else 1]
            resumes = dict(world.believes).get(node) is not None
            assert resumes or not (shows or beats), (node, world)
    assert claims, "no world in which a cut-off owner is claimed over: the worlds are too few"


def test_a_claim_is_only_told_where_a_majority_of_the_disks_can_be_read() -> None:
    for world in worlds():
        for node, told in outcomes(world).items():
            assert told != "claim" or world.cable[0 if node == "A" else 1], (node, world)


def test_where_all_is_healthy_one_owns_or_claims_and_both_claim_only_after_nobody_did_for_long() -> None:
    healthy = 0
    for world in worlds():
        if world.frozen or not world.interlink or not world.lan or not all(world.cable) or world.disabled:
            continue
        if world.since_s < 0.5:
            continue  # the last signs of an owner that is no more are not old yet
        if len(world.believes) == 1 and world.believes[0][0] != world.disks:
            continue  # the winner is just about to own
        healthy += 1
        told = list(outcomes(world).values())
        acting = [outcome for outcome in told if outcome in ("own", "claim")]
        for_long = world.since_s >= Windows().settle_s and not world.believes
        assert acting == ["claim", "claim"] if for_long else len(acting) == 1, (told, world)
    assert healthy > 50


def test_while_disabled_nobody_but_an_owner_claims() -> None:
    for world in worlds():
        if world.disabled:
            for node, told in outcomes(world).items():
                assert told != "claim" or dict(world.believes).get(node) is not None, (node, world)


def test_a_frozen_owner_is_claimed_over_after_its_lease_and_not_before() -> None:
    for world in worlds():
        if world.frozen != "A" or world.disks != "A" or world.believes != (("A", 5),) or not all(world.settled):
            continue
        if world.disabled or not world.cable[1]:
            continue
        told = outcomes(world)["B"]
        assert (told == "claim") == (world.since_s >= Windows().held_s), world
