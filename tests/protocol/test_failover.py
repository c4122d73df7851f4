"""Who is active: a table of views with the rule that must decide."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from middlewared.protocol.failover import RULES, decide, is_settled
from middlewared.protocol.failover_view import Situation, View
from tests.protocol.failover_views import NOW, disks, heard, idle, owner, settings, silent, unreadable, view, word

LINK_LOST = heard(0.02, None, word(), links_up=False, links_since=NOW - 2.0)
GONE_S = 1.3
FAULT = "pool tank is suspended"
MOVES = (NOW - 300, NOW - 200, NOW - 100)
RESIGNED = heard(0.02, 0.02, word(resigned=True))

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
        "not at once while it hears the peer",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 1.9),
        "OWNS",
    ),
    (
        "then it leaves the term to the peer",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 2.1),
        "POOL_LOST",
    ),
    (
        "whatever middlewared waits for",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 2.1, begins=True),
        "POOL_LOST",
    ),
    (
        "but to none that has only now read them again",
        owner(voters=unreadable(disks("A", "A", "A"), 2), confirmed_at=NOW - 60, peer_sees_since=NOW - 1.9),
        "OWNS",
    ),
    (
        "nor to one that does not read them either",
        owner(
            voters=unreadable(disks("A", "A", "A"), 2),
            confirmed_at=NOW - 60,
            heard=heard(0.02, None, word(disks_ok=False)),
        ),
        "OWNS",
    ),
    ("an owner with a minority of the disks takes a new term", owner(voters=disks("A", None, None)), "REGAINS"),
    ("its own key of another term counts as none", owner(voters=disks("A", "A", "A", term=6)), "REGAINS"),
    (
        "a disk in a later term, a moment ago, may be a ballot that the peer loses",
        owner(overtaken_since=NOW - 0.4),
        "OWNS",
    ),
    ("a disk that stays in a later term is taken back", owner(overtaken_since=NOW - 0.6), "REGAINS"),
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
    (
        "not when the peer reads no disks",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(disks_ok=False))),
        "OWNS",
    ),
    (
        "not when a promotion failed at the peer lately",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(failed=True))),
        "OWNS",
    ),
    ("not when the peer is held", owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(held=True))), "OWNS"),
    (
        "at once, where no timeout is set",
        owner(settings=settings(timeout_s=0.0), heard=msgspec.structs.replace(LINK_LOST, links_since=NOW)),
        "LINK_LOST",
    ),
    (
        "a lost aggregate is waited for, whatever the timeout",
        owner(
            settings=settings(timeout_s=0.0, lagg=True), heard=msgspec.structs.replace(LINK_LOST, links_since=NOW - 1.9)
        ),
        "OWNS",
    ),
    (
        "and then handed over",
        owner(settings=settings(timeout_s=0.0, lagg=True), heard=LINK_LOST),
        "LINK_LOST",
    ),
    ("a suspended pool is handed over at once", owner(fault=FAULT), "POOL_LOST"),
    ("though both lost a network", owner(fault=FAULT, heard=LINK_LOST), "POOL_LOST"),
    ("not when failover is disabled", owner(fault=FAULT, settings=settings(disabled=True)), "OWNS"),
    (
        "not when the peer lacks the disks too",
        owner(fault=FAULT, heard=heard(0.02, None, word(disks_ok=False))),
        "OWNS",
    ),
    ("not when the peer lost a network", owner(fault=FAULT, heard=heard(0.02, None, word(links_up=False))), "OWNS"),
    ("not when the peer is silent", owner(fault=FAULT, heard=heard(GONE_S, None, word())), "OWNS"),
    ("not after three moves of the term", owner(fault=FAULT, moves=MOVES), "FLAPPING"),
    ("nor for a lost network", owner(heard=LINK_LOST, moves=MOVES), "FLAPPING"),
    (
        "nor when the peer counted three",
        owner(heard=msgspec.structs.replace(LINK_LOST, peer=word(flapping=True))),
        "FLAPPING",
    ),
    ("two are fine", owner(heard=LINK_LOST, moves=MOVES[:2]), "LINK_LOST"),
    ("the oldest is forgotten after ten minutes", owner(heard=LINK_LOST, moves=(NOW - 601, *MOVES[1:])), "LINK_LOST"),
    ("an owner that has no reason to move does not flap", owner(moves=MOVES), "OWNS"),
    # Standing by
    ("a healthy standby", view(), "PEER_OWNS"),
    ("the adverts alone show an owner", silent(GONE_S, heard=heard(GONE_S, 0.1, None)), "PEER_OWNS"),
    ("the disks alone show an owner", silent(GONE_S, disk_at=NOW - 0.1), "PEER_OWNS"),
    ("the heartbeat alone shows an owner", silent(GONE_S, heard=heard(0.1, GONE_S, word(owner=True))), "PEER_OWNS"),
    ("silent, not long enough with carrier", silent(1.2), "NOT_GONE"),
    ("silent for the owner's lease", silent(GONE_S), "GONE"),
    ("a death moves the term whatever moved it before", silent(GONE_S, moves=MOVES), "GONE"),
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
    ("the peer resigned, no disks here", view(heard=RESIGNED, fault=FAULT), "PEER_OWNS"),
    ("the peer resigned, a promotion failed here", view(heard=RESIGNED, failed_at=NOW - 30), "PEER_OWNS"),
    ("the peer resigned, this one ended itself often", view(heard=RESIGNED, ended_often=True), "PEER_OWNS"),
    ("this one resigned", idle(resigned_at=NOW - 1, settings=settings(default_node="B")), "RESIGNED"),
    ("this one resigned, and the peer is gone", silent(GONE_S, resigned_at=NOW - 2), "GONE"),
    (
        "this one resigned, and the peer cannot be heard",
        silent(GONE_S, resigned_at=NOW - 2, heard_since=None),
        "RESIGNED",
    ),
    (
        "a promotion failed here, and the peer is gone",
        silent(GONE_S, resigned_at=NOW - 2, failed_at=NOW - 2),
        "RESIGNED",
    ),
    (
        "this one resigned and nobody took it",
        idle(resigned_at=NOW - 5, settings=settings(default_node="B")),
        "PREFERRED",
    ),
    # Held back
    ("ended itself often, the peer gone", silent(GONE_S, ended_often=True), "ENDED_OFTEN"),
    ("and is forced", silent(GONE_S, ended_often=True, forced=True), "FORCED"),
    ("and owned in this boot, by force", idle(ended_often=True, owned_term=5, voters=disks("B", "B", "B")), "RESUMES"),
    ("a promotion failed", idle(failed_at=NOW - 30, settings=settings(default_node="B")), "PROMOTION_FAILED"),
    ("a minute ago", idle(failed_at=NOW - 60, settings=settings(default_node="B")), "PREFERRED"),
    ("and the peer is gone", silent(GONE_S, failed_at=NOW - 1), "GONE"),
    (
        "and the peer cannot be heard",
        silent(GONE_S, failed_at=NOW - 1, heard_since=None),
        "PROMOTION_FAILED",
    ),
    ("and at the peer, before", idle(failed_at=NOW - 6, heard=heard(0.02, None, word(failed=True))), "PREFERRED"),
    ("and at the peer, after", idle(failed_at=NOW - 4, heard=heard(0.02, None, word(failed=True))), "PROMOTION_FAILED"),
    ("and this one is forced", idle(failed_at=NOW - 1, forced=True), "FORCED"),
    ("the default reads no disks", idle(heard=heard(0.02, None, word(disks_ok=False))), "PREFERRED"),
    ("a promotion failed at the default", idle(heard=heard(0.02, None, word(failed=True))), "PREFERRED"),
    ("the default ended itself often", idle(heard=heard(0.02, None, word(held=True))), "PREFERRED"),
    (
        "disks count more than networks",
        idle(heard=heard(0.02, None, word(disks_ok=False), links_up=False)),
        "PREFERRED",
    ),
    ("a pool lacks its disks here", idle(fault=FAULT, settings=settings(default_node="B")), "OTHER_PREFERRED"),
    (
        "the disks are still of a peer that cannot read them",
        idle(voters=disks("A", "A", "A"), heard=heard(0.02, None, word(disks_ok=False))),
        "PREFERRED",
    ),
]


@pytest.mark.parametrize(("seen", "rule"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_rule_that_decides(seen: View, rule: str) -> None:
    decision = decide(seen, NOW)
    assert decision.rule == rule, decision.why
    assert decision.why


def test_every_rule_decides_in_some_row_and_has_a_name_of_its_own() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {decide(seen, NOW).rule for _, seen, _ in TABLE} == set(names)


def test_every_rule_says_whom_it_serves() -> None:
    for rule in RULES:
        assert re.fullmatch(r"(R|T|F|h|t)\d+( (R|T|F|h|t)\d+)*", rule.serves), rule.name


def test_the_page_has_the_table_that_decides() -> None:
    page = (Path(__file__).parents[2] / "docs" / "failover.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert rows == [
        f"| {number} | `{rule.name}` | {rule.when} | {rule.verdict.name} | {rule.serves} |"
        for number, rule in enumerate(RULES, 1)
    ]


def test_boot_is_over_when_the_peer_was_heard_or_waited_for() -> None:
    booting = {"settled": False, "disk_at": None}
    assert is_settled(view(**booting, booted_at=NOW - 1), NOW)
    assert not is_settled(view(**booting, booted_at=NOW - 19, heard=heard(None, None)), NOW)
    assert is_settled(view(**booting, booted_at=NOW - 20, heard=heard(None, None)), NOW)


def test_the_peer_took_the_term_by_the_disks_or_by_its_signs_whatever_rule_decides() -> None:
    off = settings(disabled=True)
    assert Situation(view(settings=off), NOW).peer_took == "A holds a majority of the disks"
    assert Situation(idle(settings=off), NOW).peer_took is None
    assert Situation(silent(GONE_S, settings=off, voters=unreadable(disks("A", "A", "A"), 3)), NOW).peer_took is None
    advertises = idle(settings=off, heard=heard(GONE_S, 0.05, None))
    assert Situation(advertises, NOW).peer_took == "A owns: its adverts are heard"


def test_disks_are_not_called_lost_before_they_were_asked() -> None:
    lost = unreadable(disks("A", "A", "A"), 2)
    assert not Situation(view(voters=lost), NOW).disks_ok
    assert Situation(view(voters=lost, disks_asked=False), NOW).disks_ok
    assert not Situation(view(fault=FAULT), NOW).disks_ok
