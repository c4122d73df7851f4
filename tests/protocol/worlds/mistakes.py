"""Mistakes that somebody might make in the table, each of which some world must show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from middlewared.protocol.failover import RULES, Reason, Rule, Verdict
from middlewared.protocol.failover_view import Situation
from tests.protocol.worlds.world import A_ONLY, Odd

Table: TypeAlias = tuple[Rule, ...]


def forgotten(name: str) -> Table:
    return tuple(rule for rule in RULES if rule.name != name)


def changed(name: str, *, reason: Reason | None = None, verdict: Verdict | None = None) -> Table:
    """One rule with another condition or another verdict."""

    def change(rule: Rule) -> Rule:
        return msgspec.structs.replace(rule, reason=reason or rule.reason, verdict=verdict or rule.verdict)

    return tuple(change(rule) if rule.name == name else rule for rule in RULES)


def if_(holds: Callable[[Situation], bool]) -> Reason:
    return lambda s: "it is so" if holds(s) else None


MISTAKES: dict[str, Table] = {
    "an owner that is deposed does not notice": forgotten("DEPOSED"),
    "an owner that is cut off stays": forgotten("CUT_OFF"),
    "an owner that is cut off tries for a new term for ever": changed(
        "BEGINS", reason=if_(lambda s: s.view.owns and s.view.begins)
    ),
    "an owner whose pool is lost keeps it": forgotten("POOL_LOST"),
    "a term that moves too often goes on moving": forgotten("FLAPPING"),
    "a term is given up to a peer that cannot take it": changed(
        "LINK_LOST",
        reason=if_(lambda s: s.view.owns and not s.links_up and s.word is not None and s.word.links_up),
    ),
    "failover goes on although it is disabled": forgotten("DISABLED"),
    "an owner that is heard is not believed": forgotten("PEER_OWNS"),
    "only the heartbeat shows an owner": changed(
        "PEER_OWNS", reason=if_(lambda s: s.word is not None and s.word.owner)
    ),
    "a controller that ends itself again and again goes on claiming": forgotten("ENDED_OFTEN"),
    "a claim is tried without the disks": forgotten("UNREADABLE"),
    "the lease of a frozen owner is not waited for": changed("GONE", reason=if_(lambda s: s.gone)),
    "unknown is dead": changed("NOT_GONE", verdict=Verdict.CLAIM),
    "a peer that is gone is waited for": forgotten("GONE"),
}

WHERE = {
    "an owner that is cut off stays": Odd(default="B"),
    "a claim is tried without the disks": Odd(default="B"),
    "an owner that is cut off tries for a new term for ever": Odd(begins=True),
    "an owner whose pool is lost keeps it": Odd(fault=A_ONLY),
    "a term that moves too often goes on moving": Odd(flapping=True),
}
"""Where the rare ones show."""
