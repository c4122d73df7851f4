"""Who is active: one pure function from what this controller knows to what it shall do.

`decide(view, now)` goes down `RULES`, and the first rule whose condition holds decides; the last one always holds. A
rule's condition (failover_conditions.py) returns its reason as a sentence, or None. The simulator, fenced and the
explanation that the API gives call the same function.

What the rules rest on
- Only a majority of the shared disks makes an owner (protocol/ballot.py). CLAIM means "try", never "be".
- Three channels show that a peer lives: heartbeats on the interlink, CARP adverts on the LAN, the owner's heartbeat on
  the disks. *Gone* means that all three are silent; a channel that nobody watches is unknown, and unknown is not dead.
- Adverts and disk heartbeats come from an owner only, so one of them shows that there is an owner.
- An age counts from the last sign or from when the channel began to be watched without a break, whichever is later: a
  controller that slept learns nothing from its own sleep.
- A frozen owner's addresses answer until their lease ends. With the interlink's carrier up the peer may be frozen, so
  the claim waits `held_s`; without carrier it has no power or no cable.
- An owner gives its term up only to a peer that says, over an interlink that works both ways, that it would do better.
- A closing connection is no sign of death and is not in the view.

Deliberately not handled: an owner that lost its networks *and* the interlink stays, because it cannot know whether its
peer is better off, or there. Whether an owner serves clients, and what it does with its pools, follows from its role
(fenced/serving.py, protocol/plan.py). Times are this controller's CLOCK_BOOTTIME in seconds; no time of the peer's is
ever compared.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

from middlewared.protocol import failover_conditions as conditions
from middlewared.protocol.failover_view import Situation, View


class Verdict(Enum):
    """What to do. CLAIM: hold a ballot, keeping the role until it is won. The others: be that at once."""

    WAIT = "wait"
    SINGLE = "single"
    OWN = "own"
    STAND_BY = "stand by"
    CLAIM = "claim"
    RESIGN = "resign"


class Decision(msgspec.Struct, frozen=True):
    """rule: the name of the rule that decided. why: one sentence for people."""

    rule: str
    verdict: Verdict
    why: str


Reason: TypeAlias = Callable[[Situation], str | None]


class Rule(msgspec.Struct, frozen=True):
    """when: the condition, for people. serves: the rows of reference/ha.md that ask for it: rules R, sentences T of the
    page "Configuring High Availability", steps h and t of handover and takeover, faults F."""

    name: str
    verdict: Verdict
    when: str
    serves: str
    reason: Reason


RULES: tuple[Rule, ...] = (
    Rule(
        "UNCONFIGURED",
        Verdict.WAIT,
        "no settings came from middlewared",
        "T15",
        conditions.unconfigured,
    ),
    Rule(
        "SINGLE",
        Verdict.SINGLE,
        "never paired",
        "R1 T1 T3",
        conditions.single,
    ),
    # An owner
    Rule(
        "DEPOSED",
        Verdict.STAND_BY,
        "an owner; the peer holds a majority of the disks, or says that it owns a higher term",
        "R2 F5",
        conditions.deposed,
    ),
    Rule(
        "FORCED",
        Verdict.CLAIM,
        "not an owner; an operator asked for it (`failover.force_master`)",
        "R4 T20 F32",
        conditions.forced,
    ),
    Rule(
        "CUT_OFF",
        Verdict.STAND_BY,
        "an owner; no majority confirmed the term for `lease_s`, and the peer is not heard, or is heard to advertise",
        "R3 F18",
        conditions.cut_off,
    ),
    Rule(
        "BEGINS",
        Verdict.CLAIM,
        "an owner whose disks answer; middlewared began anew and needs a term of its own",
        "F1",
        conditions.begins,
    ),
    Rule(
        "REGAINS",
        Verdict.CLAIM,
        "an owner; a majority of the disks answers and is not the peer's; fewer hold our term, or one has a later "
        "term, or is the peer's in ours, for `overtaken_s`",
        "R3 t2 F31",
        conditions.regains,
    ),
    Rule(
        "FLAPPING",
        Verdict.OWN,
        "an owner; `POOL_LOST` or `LINK_LOST` would hold, but the term moved 3 times in 10 minutes, as either counted",
        "R15 F21",
        conditions.flapping,
    ),
    Rule(
        "POOL_LOST",
        Verdict.RESIGN,
        "an owner; a pool is suspended or lost its disks, or no majority confirmed the term for twice `lease_s`; the "
        "peer is ready and has no fewer networks; failover enabled",
        "R13",
        conditions.pool_lost,
    ),
    Rule(
        "LINK_LOST",
        Verdict.RESIGN,
        "an owner; a network with a virtual IP is down for `failover.config.timeout` (an aggregate: 2 s at least) and "
        "is up at the peer, which is ready; failover enabled",
        "R10 T6 T7 T18 F15 F16",
        conditions.link_lost,
    ),
    Rule(
        "OWNS",
        Verdict.OWN,
        "an owner",
        "R6 R15 F7 F14",
        conditions.owns,
    ),
    # No owner: what holds it back or lets it go on where it was
    Rule(
        "RESUMES",
        Verdict.CLAIM,
        "owned in this boot, gave nothing up, and a majority of the disks is still ours (fenced was restarted, or cut "
        "off for a while)",
        "R3 F3",
        conditions.resumes,
    ),
    Rule(
        "VOTERLESS",
        Verdict.STAND_BY,
        "paired without shared disks",
        "R4 T20",
        conditions.voterless,
    ),
    Rule(
        "DISABLED",
        Verdict.STAND_BY,
        "failover is disabled",
        "R5 R6 T14 T20",
        conditions.disabled,
    ),
    Rule(
        "PEER_RESIGNED",
        Verdict.CLAIM,
        "the peer gave its term up; our networks are up, our disks can be read, and no rule below holds us back",
        "R10 R13 R14 T5 h5",
        conditions.peer_resigned,
    ),
    Rule(
        "PEER_OWNS",
        Verdict.STAND_BY,
        "the peer says so, advertises, or beats on the disks",
        "R7 R12 F14 F17",
        conditions.peer_owns,
    ),
    Rule(
        "ENDED_OFTEN",
        Verdict.STAND_BY,
        "this controller ended itself 3 times in 10 minutes",
        "R13",
        conditions.ended_often,
    ),
    Rule(
        "PROMOTION_FAILED",
        Verdict.STAND_BY,
        "a promotion failed here less than 60 s ago (5 s, if the peer failed too), and the peer is not gone",
        "t3",
        conditions.promotion_failed,
    ),
    Rule(
        "RESIGNED",
        Verdict.STAND_BY,
        "we gave the term up less than 5 s ago, and the peer is not gone, or a promotion failed here",
        "h4 h5",
        conditions.resigned,
    ),
    Rule(
        "BOOTING",
        Verdict.WAIT,
        "the peer was not heard since boot, and `settle_s` has not passed",
        "R7 T15 F36",
        conditions.booting,
    ),
    Rule(
        "UNREADABLE",
        Verdict.STAND_BY,
        "no majority of the disks can be read",
        "R9 F18 F31",
        conditions.unreadable,
    ),
    # Both are there and none owns
    Rule(
        "OWN_KEY",
        Verdict.CLAIM,
        "the peer is there and does not own; the disks are reserved for us since before our boot",
        "R7",
        conditions.own_key,
    ),
    Rule(
        "NOBODY_FOR_LONG",
        Verdict.CLAIM,
        "both are there and nobody owned for `settle_s`",
        "R7 F33",
        conditions.nobody_for_long,
    ),
    Rule(
        "PEER_KEY",
        Verdict.STAND_BY,
        "the peer is there and may claim; the disks are reserved for it",
        "R7",
        conditions.peer_key,
    ),
    Rule(
        "PREFERRED",
        Verdict.CLAIM,
        "both are there; we are the one that may claim, else whose networks are up, else the default controller",
        "R7 T17 F36",
        conditions.preferred,
    ),
    Rule(
        "OTHER_PREFERRED",
        Verdict.STAND_BY,
        "both are there; the peer is",
        "R7 T17 F36",
        conditions.other_preferred,
    ),
    # The peer is not heard on the interlink
    Rule(
        "GONE_WITHOUT_CARRIER",
        Verdict.CLAIM,
        "the peer is gone and the interlink has no carrier",
        "R9 T4 F4",
        conditions.gone_without_carrier,
    ),
    Rule(
        "GONE",
        Verdict.CLAIM,
        "the peer is gone, and `held_s` passed since its last sign",
        "R9 T4 F5",
        conditions.gone_and_held,
    ),
    Rule(
        "NOT_GONE",
        Verdict.STAND_BY,
        "anything else",
        "R9 R15 F19 F20",
        conditions.not_gone,
    ),
)


def decide(view: View, now: float, rules: tuple[Rule, ...] = RULES) -> Decision:
    """The first of `rules` that holds. Total: the last one always does."""
    situation = Situation(view, now)
    for rule in rules:
        why = rule.reason(situation)
        if why is not None:
            return Decision(rule.name, rule.verdict, why)
    raise AssertionError("the last rule always holds")


def is_settled(view: View, now: float) -> bool:
    """Whether boot is over: the peer was heard, or was waited for long enough. Once over, it stays over."""
    situation = Situation(view, now)
    return situation.settled
