"""Who is active: one pure function from what this controller knows to what it shall do.

`decide(view, now)` goes down `RULES`, and the first rule whose condition holds decides; the last one always holds. A
rule's condition returns its reason as a sentence, or None. The simulator, fenced and the explanation that the API gives
call the same function.

What the rules rest on
- Only a majority of the shared disks makes an owner (protocol/ballot.py). CLAIM means "try", never "be".
- Three channels show that a peer lives: heartbeats on the interlink, CARP adverts on the LAN, the owner's heartbeat on
  the disks. *Gone* means that all three are silent; a channel that nobody watches is unknown, and unknown is not dead.
- Adverts and disk heartbeats come from an owner only, so one of them shows that there is an owner.
- An age counts from the last sign or from when the channel began to be watched without a break, whichever is later: a
  controller that slept learns nothing from its own sleep.
- A frozen owner's addresses answer until their lease ends. With the interlink's carrier up the peer may be frozen, so
  the claim waits `held_s`; without carrier it has no power or no cable.
- A closing connection is no sign of death and is not in the view.

Deliberately not handled here: pools and services, groups of interfaces, the limit on role changes. Times are this
controller's CLOCK_BOOTTIME in seconds; no time of the peer's is ever compared.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

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


def decide(view: View, now: float) -> Decision:
    """The first rule of RULES that holds. Total: the last one always does."""
    situation = Situation(view, now)
    for rule, verdict, reason in RULES:
        why = reason(situation)
        if why is not None:
            return Decision(rule, verdict, why)
    raise AssertionError("the last rule always holds")


def is_settled(view: View, now: float) -> bool:
    """Whether boot is over: the peer was heard, or was waited for long enough. Once over, it stays over."""
    situation = Situation(view, now)
    return situation.settled


# The conditions, in the order of the table at the end


def _unconfigured(s: Situation) -> str | None:
    return "no settings have come from middlewared yet" if s.view.settings is None else None


def _single(s: Situation) -> str | None:
    assert s.view.settings is not None
    return None if s.view.settings.paired else "this controller was never paired"


def _deposed(s: Situation) -> str | None:
    if not s.view.owns:
        return None
    if s.held_by(s.peer):
        return f"{s.peer} holds a majority of the disks"
    if s.word is None or not s.word.owner:
        return None
    if s.word.term > s.view.term:
        return f"{s.peer} owns the higher term {s.word.term}"
    if s.word.term == s.view.term and not s.view.voters and s.me == "B":
        return f"both were forced into term {s.view.term}, and B yields"
    return None


def _forced(s: Situation) -> str | None:
    if not s.view.forced or s.view.owns:
        return None
    unfenced = "" if s.view.voters else "; there are no shared disks, so nothing fences the peer"
    return f"an operator forces this controller to be active{unfenced}"


def _begins(s: Situation) -> str | None:
    if not (s.view.owns and s.view.begins):
        return None
    return "middlewared began anew, and its writes need a term of their own"


def _cut_off(s: Situation) -> str | None:
    """An owner that cannot confirm its term may have been replaced; only a peer that is there and idle keeps it."""
    if not s.view.owns or not s.view.voters:
        return None
    since = s.view.confirmed_at
    if since is not None and s.now - since <= s.view.windows.lease_s:
        return None
    unconfirmed = f"the disks have not confirmed the term for {s.view.windows.lease_s:g} s"
    if not s.signs:
        return f"{unconfirmed} and {s.peer} is not heard"
    if s.word is None and "adverts" in s.signs:
        return f"{unconfirmed} and {s.peer} advertises, which only an owner does"
    return None


def _regains(s: Situation) -> str | None:
    if not s.view.owns or not s.majority(len(s.reachable)) or s.majority(s.mine):
        return None
    return f"only {s.mine} of {len(s.view.voters)} disks hold term {s.view.term}, and {s.peer} has no majority"


def _link_lost(s: Situation) -> str | None:
    settings, heard, word = s.view.settings, s.view.heard, s.word
    if not s.view.owns or not s.view.voters or settings is None or settings.disabled or heard is None or word is None:
        return None
    if heard.links_up or s.now - heard.links_since < settings.timeout_s:
        return None
    # Without carrier on the interlink its last word is old: it may have lost its networks, or its power, with ours.
    if not (heard.carrier and word.links_up and word.hears_us and word.settled):
        return None
    return f"a network with a virtual IP is lost here for {settings.timeout_s:g} s and is up at {s.peer}"


def _owns(s: Situation) -> str | None:
    if not s.view.owns:
        return None
    if not s.view.voters:
        return f"term {s.view.term} was forced; there are no shared disks, so nothing fences the peer"
    return f"this controller holds term {s.view.term}"


def _resumes(s: Situation) -> str | None:
    if not s.view.owned_term or s.held_by(s.peer) or (s.word is not None and s.word.owner):
        return None
    if s.view.voters and not s.held_by(s.me):
        return None
    return f"this controller owned term {s.view.owned_term} in this boot and nobody took it"


def _voterless(s: Situation) -> str | None:
    return None if s.view.voters else "paired without shared disks: only failover.force_master claims"


def _disabled(s: Situation) -> str | None:
    return "failover is disabled" if s.view.settings is not None and s.view.settings.disabled else None


def _peer_resigned(s: Situation) -> str | None:
    if s.word is None or not s.word.resigned or s.word.owner or not s.links_up:
        return None
    return f"{s.peer} gave its term up for this controller to take"


def _peer_owns(s: Situation) -> str | None:
    return f"{s.peer} owns: {', '.join(s.owner_signs)}" if s.owner_signs else None


def _resigned(s: Situation) -> str | None:
    if s.view.resigned_at is None or s.now - s.view.resigned_at >= s.view.windows.resign_s:
        return None
    return f"this controller gave its term up {s.now - s.view.resigned_at:.1f} s ago for {s.peer} to take"


def _booting(s: Situation) -> str | None:
    if s.settled:
        return None
    return f"{s.peer} was not heard since boot; it is waited for until {s.view.windows.settle_s:g} s after it"


def _unreadable(s: Situation) -> str | None:
    if s.majority(len(s.reachable)):
        return None
    return f"only {len(s.reachable)} of {len(s.view.voters)} disks can be read"


def _own_key(s: Situation) -> str | None:
    if s.word is None or not s.held_by(s.me):
        return None
    return f"the disks are reserved for this controller since before its boot, and {s.peer} does not own"


def _nobody_for_long(s: Situation) -> str | None:
    idle_since = s.view.peer_idle_since
    if s.word is None or idle_since is None or s.now - idle_since < s.view.windows.settle_s:
        return None
    return f"both are there and nobody owned for {s.view.windows.settle_s:g} s"


def _peer_key(s: Situation) -> str | None:
    if s.word is None or not s.held_by(s.peer):
        return None
    return f"the disks are reserved for {s.peer}, which is there and may resume"


def _preferred(s: Situation) -> str | None:
    return "both are there, none owns, and this controller is preferred" if s.word is not None and s.preferred else None


def _other_preferred(s: Situation) -> str | None:
    return f"both are there, none owns, and {s.peer} is preferred" if s.word is not None else None


def _gone_without_carrier(s: Situation) -> str | None:
    if not s.gone or s.view.heard is None or s.view.heard.carrier:
        return None
    return f"{s.peer} is silent on all channels and the interlink has no carrier"


def _gone_and_held(s: Situation) -> str | None:
    if not s.gone or s.silent_s < s.view.windows.held_s:
        return None
    return f"{s.peer} is silent on all channels for {s.silent_s:.2f} s"


def _alive_or_unknown(s: Situation) -> str | None:
    if s.last_signs is None:
        return f"{s.peer} cannot be heard here on every channel, which is no sign of its death"
    return f"{s.peer} was heard {s.silent_s:.2f} s ago, which is not long enough to call it gone"


Reason: TypeAlias = Callable[[Situation], str | None]

RULES: tuple[tuple[str, Verdict, Reason], ...] = (
    ("UNCONFIGURED", Verdict.WAIT, _unconfigured),
    ("SINGLE", Verdict.SINGLE, _single),
    # An owner
    ("DEPOSED", Verdict.STAND_BY, _deposed),
    ("FORCED", Verdict.CLAIM, _forced),
    ("BEGINS", Verdict.CLAIM, _begins),
    ("CUT_OFF", Verdict.STAND_BY, _cut_off),
    ("REGAINS", Verdict.CLAIM, _regains),
    ("LINK_LOST", Verdict.RESIGN, _link_lost),
    ("OWNS", Verdict.OWN, _owns),
    # No owner: what holds it back or lets it go on where it was
    ("RESUMES", Verdict.CLAIM, _resumes),
    ("VOTERLESS", Verdict.STAND_BY, _voterless),
    ("DISABLED", Verdict.STAND_BY, _disabled),
    ("PEER_RESIGNED", Verdict.CLAIM, _peer_resigned),
    ("PEER_OWNS", Verdict.STAND_BY, _peer_owns),
    ("RESIGNED", Verdict.STAND_BY, _resigned),
    ("BOOTING", Verdict.WAIT, _booting),
    ("UNREADABLE", Verdict.STAND_BY, _unreadable),
    # Both are there and none owns
    ("OWN_KEY", Verdict.CLAIM, _own_key),
    ("NOBODY_FOR_LONG", Verdict.CLAIM, _nobody_for_long),
    ("PEER_KEY", Verdict.STAND_BY, _peer_key),
    ("PREFERRED", Verdict.CLAIM, _preferred),
    ("OTHER_PREFERRED", Verdict.STAND_BY, _other_preferred),
    # The peer is not heard on the interlink
    ("GONE_WITHOUT_CARRIER", Verdict.CLAIM, _gone_without_carrier),
    ("GONE", Verdict.CLAIM, _gone_and_held),
    ("NOT_GONE", Verdict.STAND_BY, _alive_or_unknown),
)
