"""Who is active: a table of views with the rule that must decide, and every small world from both sides."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from middlewared.kernel.facts import Node, other
from middlewared.protocol.failover import RULES, decide, is_settled
from middlewared.protocol.failover_view import View, Windows
from middlewared.protocol.hub import Heard, PeerWord, Settings, VoterState

NOW = 1000.0
LONG_AGO = NOW - 100.0
DISKS = ("0", "1", "2")


def settings(**changes: object) -> Settings:
    usual = Settings(
        paired=True,
        cluster_id="c",
        key=b"k",
        disabled=False,
        default_node="A",
        timeout_s=2.0,
        single_term=1,
        vips=(),
    )
    return msgspec.structs.replace(usual, **changes)


def word(**changes: object) -> PeerWord:
    """An idle, healthy peer."""
    usual = PeerWord(boot_id="b", term=4, owner=False, links_up=True, hears_us=True, settled=True, resigned=False)
    return msgspec.structs.replace(usual, **changes)


def heard(interlink: float | None, advert: float | None, peer: PeerWord | None = None, **changes: object) -> Heard:
    """Ages in seconds, None: never."""
    usual = Heard(
        since=LONG_AGO,
        interlink_at=None if interlink is None else NOW - interlink,
        advert_at=None if advert is None else NOW - advert,
        carrier=True,
        carrier_since=LONG_AGO,
        links_up=True,
        links_since=LONG_AGO,
        peer=peer,
    )
    return msgspec.structs.replace(usual, **changes)


def disks(*owners: Node | None, term: int = 5) -> tuple[VoterState, ...]:
    return tuple(
        VoterState(name=name, reachable=True, term=term, owner=owner) for name, owner in zip(DISKS, owners, strict=True)
    )


def unreadable(states: tuple[VoterState, ...], count: int) -> tuple[VoterState, ...]:
    return tuple(msgspec.structs.replace(state, reachable=n >= count) for n, state in enumerate(states))


def view(**changes: object) -> View:
    """B, long settled, standing by behind a healthy owner A of term 5."""
    usual = View(
        node="B",
        windows=Windows(),
        settings=settings(),
        booted_at=LONG_AGO,
        settled=True,
        owns=False,
        term=5,
        confirmed_at=None,
        owned_term=0,
        begins=False,
        forced=False,
        resigned_at=None,
        voters=disks("A", "A", "A"),
        heard=heard(0.02, 0.02, word(owner=True, term=5)),
        heard_since=LONG_AGO,
        disk_at=NOW - 0.05,
        disk_since=LONG_AGO,
        peer_idle_since=None,
    )
    return msgspec.structs.replace(usual, **changes)


def owner(**changes: object) -> View:
    """A, owner of term 5, with a healthy B standing by."""
    usual = view(
        node="A",
        owns=True,
        owned_term=5,
        confirmed_at=NOW - 0.05,
        heard=heard(0.02, None, word()),
        disk_at=None,
        disk_since=None,
        peer_idle_since=LONG_AGO,
    )
    return msgspec.structs.replace(usual, **changes)


def silent(age_s: float, **changes: object) -> View:
    """B; every sign of A is `age_s` old."""
    return view(**{"heard": heard(age_s, age_s, word(owner=True, term=5)), "disk_at": NOW - age_s} | changes)


def idle(**changes: object) -> View:
    """B, with A there, and nobody owns: the disks are free."""
    usual = {
        "voters": disks(None, None, None),
        "heard": heard(0.02, None, word()),
        "disk_at": LONG_AGO,
        "peer_idle_since": NOW - 1,
    }
    return view(**usual | changes)


LINK_LOST = heard(0.02, None, word(), links_up=False, links_since=NOW - 2.0)
GONE_S = 1.3

TABLE: list[tuple[str, View, str]] = [
    ("no settings came yet", view(settings=None), "UNCONFIGURED"),
    ("an owner without settings waits too", owner(settings=None), "UNCONFIGURED"),
    ("never paired", view(settings=settings(paired=False)), "SINGLE"),
    # An owner
    ("a healthy owner stays", owner(), "OWNS"),
    ("a healthy owner stays though failover is disabled", owner(settings=settings(disabled=True)), "OWNS"),
    ("an owner stays though the peer is silent", owner(heard=heard(GONE_S, None, word())), "OWNS"),
    ("an owner stays with one disk silent", owner(voters=unreadable(disks("A", "A", "A"), 1)), "OWNS"),
    ("an owner stays with one disk taken", owner(voters=disks("B", "A", "A")), "OWNS"),
    ("an owner whose disks are the peer's is deposed", owner(voters=disks("B", "B", "A", term=6)), "DEPOSED"),
    (
        "an owner that hears of a higher term is deposed, its disks unread",
        owner(voters=unreadable(disks("A", "A", "A"), 3), heard=heard(0.02, None, word(owner=True, term=6))),
        "DEPOSED",
    ),
    ("a peer that claims a lower term deposes nobody", owner(heard=heard(0.02, None, word(owner=True))), "OWNS"),
    ("middlewared began anew", owner(begins=True), "BEGINS"),
    ("an owner that was deposed begins nothing", owner(begins=True, voters=disks("B", "B", "B", term=6)), "DEPOSED"),
    ("an owner has nothing to be forced to", owner(forced=True), "OWNS"),
    (
        "an owner cut off from disks and peer steps down",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 1.1, heard=heard(GONE_S, None, word())),
        "CUT_OFF",
    ),
    (
        "not before its lease has passed",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 0.9, heard=heard(GONE_S, None, word())),
        "OWNS",
    ),
    (
        "or hears the peer advertise, which only an owner does",
        owner(voters=unreadable(disks("A", "A", "A"), 3), confirmed_at=NOW - 1.1, heard=heard(GONE_S, 0.05, word())),
        "CUT_OFF",
    ),
    (
        "not while it hears the peer",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 60),
        "OWNS",
    ),
    ("an owner with a minority of the disks takes a new term", owner(voters=disks("A", None, None)), "REGAINS"),
    ("its own key of another term counts as none", owner(voters=disks("A", "A", "A", term=6)), "REGAINS"),
    ("a lost network that the peer has is handed over", owner(heard=LINK_LOST), "LINK_LOST"),
    (
        "not before the timeout",
        owner(heard=msgspec.structs.replace(LINK_LOST, links_since=NOW - 1.9)),
        "OWNS",
    ),
    (
        "not when the peer lost it too",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(links_up=False))),
        "OWNS",
    ),
    (
        "not when the peer does not hear us",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(hears_us=False))),
        "OWNS",
    ),
    (
        "not when the peer has just booted",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(settled=False))),
        "OWNS",
    ),
    (
        "not when the interlink lost its carrier after the peer's last word",
        owner(heard=msgspec.structs.replace(LINK_LOST, carrier=False)),
        "OWNS",
    ),
    ("not when the peer is silent", owner(heard=msgspec.structs.replace(LINK_LOST, interlink_at=NOW - 0.2)), "OWNS"),
    ("not when failover is disabled", owner(heard=LINK_LOST, settings=settings(disabled=True)), "OWNS"),
    # Standing by
    ("a healthy standby", view(), "PEER_OWNS"),
    ("the adverts alone show an owner", silent(GONE_S, heard=heard(GONE_S, 0.1, None)), "PEER_OWNS"),
    ("the disks alone show an owner", silent(GONE_S, disk_at=NOW - 0.1), "PEER_OWNS"),
    ("the heartbeat alone shows an owner", silent(GONE_S, heard=heard(0.1, GONE_S, word(owner=True))), "PEER_OWNS"),
    ("silent, not long enough with carrier", silent(1.2), "NOT_GONE"),
    ("silent for the owner's lease", silent(GONE_S), "GONE"),
    (
        "without carrier at once",
        silent(0.35, heard=heard(0.35, 0.35, word(owner=True), carrier=False)),
        "GONE_WITHOUT_CARRIER",
    ),
    (
        "without carrier, but an advert came",
        silent(0.35, heard=heard(0.35, 0.25, word(owner=True), carrier=False)),
        "PEER_OWNS",
    ),
    ("carpd reports nothing", silent(GONE_S, heard_since=None), "NOT_GONE"),
    ("carpd never reported", silent(GONE_S, heard=None, heard_since=None), "NOT_GONE"),
    ("carpd began to listen a moment ago", silent(GONE_S, heard_since=NOW - 0.2), "NOT_GONE"),
    ("carpd started a moment ago", silent(GONE_S, heard=heard(None, None, since=NOW - 0.2)), "NOT_GONE"),
    (
        "the disks cannot be read here",
        silent(GONE_S, voters=unreadable(disks("A", "A", "A"), 2), disk_since=None),
        "UNREADABLE",
    ),
    ("the disks can be read since a moment ago", silent(GONE_S, disk_since=NOW - 0.2), "NOT_GONE"),
    ("one disk that cannot be read is fine", silent(GONE_S, voters=unreadable(disks("A", "A", "A"), 1)), "GONE"),
    ("disabled, the peer gone", silent(GONE_S, settings=settings(disabled=True)), "DISABLED"),
    ("forced over an owner", view(forced=True), "FORCED"),
    ("forced while disabled and booting", view(forced=True, settled=False, settings=settings(disabled=True)), "FORCED"),
    ("no shared disks", silent(GONE_S, voters=(), disk_since=None), "VOTERLESS"),
    ("no shared disks, forced", silent(GONE_S, voters=(), forced=True), "FORCED"),
    ("no shared disks, owner", owner(voters=(), confirmed_at=None), "OWNS"),
    (
        "no shared disks, both forced into one term: B yields",
        owner(node="B", voters=(), heard=heard(0.02, None, word(owner=True, term=5))),
        "DEPOSED",
    ),
    # Boot
    ("the peer was never heard", silent(GONE_S, settled=False, booted_at=NOW - 5, heard=heard(None, None)), "BOOTING"),
    (
        "nor for as long as it is waited for",
        silent(GONE_S, settled=False, booted_at=NOW - 20, heard=heard(None, None)),
        "GONE",
    ),
    ("an owner is heard at boot", view(settled=False, booted_at=NOW - 1), "PEER_OWNS"),
    ("both boot, this one is not the default", idle(settled=False, booted_at=NOW - 1), "OTHER_PREFERRED"),
    ("both boot, this one is the default", idle(settled=False, settings=settings(default_node="B")), "PREFERRED"),
    ("the default's network is down", idle(heard=heard(0.02, None, word(links_up=False))), "PREFERRED"),
    (
        "this one's network is down",
        idle(settings=settings(default_node="B"), heard=heard(0.02, None, word(), links_up=False)),
        "OTHER_PREFERRED",
    ),
    ("disabled, both boot", idle(settings=settings(disabled=True, default_node="B")), "DISABLED"),
    ("the disks are still this one's", idle(voters=disks("B", "B", "B")), "OWN_KEY"),
    (
        "the disks are still the peer's",
        idle(voters=disks("A", "A", "A"), settings=settings(default_node="B")),
        "PEER_KEY",
    ),
    ("nobody took them for long", idle(voters=disks("A", "A", "A"), peer_idle_since=NOW - 20), "NOBODY_FOR_LONG"),
    ("fenced restarted, its term still on the disks", idle(owned_term=5, voters=disks("B", "B", "B")), "RESUMES"),
    (
        "fenced restarted while disabled",
        idle(owned_term=5, voters=disks("B", "B", "B"), settings=settings(disabled=True)),
        "RESUMES",
    ),
    ("fenced restarted after the peer took it", view(owned_term=4), "PEER_OWNS"),
    (
        "fenced restarted, the disks unread so far",
        idle(owned_term=5, voters=unreadable(disks("B", "B", "B"), 3)),
        "UNREADABLE",
    ),
    # Handover
    ("the peer resigned", view(heard=heard(0.02, 0.02, word(resigned=True))), "PEER_RESIGNED"),
    (
        "the peer resigned, no network here",
        view(heard=heard(0.02, 0.02, word(resigned=True), links_up=False)),
        "PEER_OWNS",
    ),
    (
        "the peer resigned, disabled",
        view(heard=heard(0.02, 0.02, word(resigned=True)), settings=settings(disabled=True)),
        "DISABLED",
    ),
    ("this one resigned", idle(resigned_at=NOW - 1, settings=settings(default_node="B")), "RESIGNED"),
    (
        "this one resigned and nobody took it",
        idle(resigned_at=NOW - 5, settings=settings(default_node="B")),
        "PREFERRED",
    ),
]


@pytest.mark.parametrize(("seen", "rule"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_rule_that_decides(seen: View, rule: str) -> None:
    decision = decide(seen, NOW)
    assert decision.rule == rule, decision.why
    assert decision.why


def test_every_rule_decides_in_some_row_and_has_a_name_of_its_own() -> None:
    names = [rule for rule, _, _ in RULES]
    assert len(set(names)) == len(names)
    assert {decide(seen, NOW).rule for _, seen, _ in TABLE} == set(names)


def test_the_page_has_every_rule_in_order_with_its_verdict() -> None:
    page = (Path(__file__).parents[2] / "docs" / "failover.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \|.*\| ([A-Z_]+) \|$", page, re.MULTILINE)
    assert rows == [(rule, verdict.name) for rule, verdict, _ in RULES]


def test_boot_is_over_when_the_peer_was_heard_or_waited_for() -> None:
    booting = {"settled": False, "disk_at": None}
    assert is_settled(view(**booting, booted_at=NOW - 1), NOW)
    assert not is_settled(view(**booting, booted_at=NOW - 19, heard=heard(None, None)), NOW)
    assert is_settled(view(**booting, booted_at=NOW - 20, heard=heard(None, None)), NOW)


# Both sides of one world


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
