"""The smallest model of the pair that the rules can see: what it is to carry, to hold and to claim.

Each side keeps its own times; `t` is the time since the fault. See dry_run.py.
"""

from __future__ import annotations

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol.failover import Decision, Verdict
from middlewared.protocol.failover_view import Situation, View
from middlewared.protocol.hub import Heard, PeerWord, VoterState


class Controller:
    """One side of the model. Times are its own CLOCK_BOOTTIME."""

    def __init__(self, view: View, now: float) -> None:
        situation = Situation(view, now)
        self.node: Node = view.node
        self.base = view
        self.began_at = now
        self.runs = True
        self.dead = False
        self.owns = view.owns
        self.term = view.term
        self.owned_term = view.owned_term
        self.cable = situation.readable
        self.links_up = situation.links_up
        self.links_since = view.heard.links_since if view.heard is not None else now
        self.fault = view.fault
        self.resigned_at = view.resigned_at
        self.settled = situation.settled
        self.imported = bool(view.imported)
        self.ended = False
        self.confirmed_at = view.confirmed_at
        self.interlink_at = view.heard.interlink_at if view.heard is not None else None
        self.advert_at = view.heard.advert_at if view.heard is not None else None
        self.disk_at = view.disk_at
        self.word: PeerWord | None = view.heard.peer if view.heard is not None else None
        self.idle_since = view.peer_idle_since
        self.sees_since = view.peer_sees_since
        self.told: Decision | None = None


class Pair:
    """Both, and what is between them. passes, adverts: whether what this controller says reaches the other."""

    def __init__(self, a: Controller, b: Controller) -> None:
        self.of: dict[Node, Controller] = {"A": a, "B": b}
        self.voters = len(a.base.voters) or len(b.base.voters)
        self.carrier = all(one.base.heard is None or one.base.heard.carrier for one in (a, b))
        self.holder, self.holder_term = _holder(a.base, b.base)
        self.passes = {node: self._was_heard(other(node), "interlink") for node in self.of}
        self.adverts = {node: one.links_up for node, one in self.of.items()}

    def _was_heard(self, by: Node, sign: str) -> bool:
        one = self.of[by]
        return sign in Situation(one.base, one.began_at).signs

    def owner(self) -> Node | None:
        for node, one in self.of.items():
            holds = not self.voters or (self.holder, self.holder_term) == (node, one.term)
            if one.owns and one.runs and holds:
                return node
        return None

    def beats(self, one: Controller) -> bool:
        return one.owns and one.runs and one.cable and (self.holder, self.holder_term) == (one.node, one.term)

    # One moment

    def hear(self, t: float) -> None:
        """What is carried at `t` after the fault."""
        for one in self.of.values():
            there, now = self.of[other(one.node)], one.began_at + t
            if self.beats(one):
                one.confirmed_at = now
            if not there.runs:
                continue
            if self.carrier and self.passes[there.node]:
                one.interlink_at, one.word = now, self._word(there, t)
                one.idle_since = (one.idle_since or now) if not one.word.owner and not one.owns else None
                one.sees_since = (one.sees_since or now) if one.word.disks_ok else None
            if there.owns and self.adverts[there.node] and one.links_up:
                one.advert_at = now
            if self.beats(there) and one.cable:
                one.disk_at = now

    def _word(self, one: Controller, t: float) -> PeerWord:
        return PeerWord(
            boot_id="",
            term=one.term,
            owner=one.owns,
            links_up=one.links_up,
            hears_us=self.passes[other(one.node)] and self.of[other(one.node)].runs and self.carrier,
            settled=one.settled,
            resigned=one.resigned_at is not None,
            disks_ok=one.cable and one.fault is None,
            failed=Situation(one.base, one.began_at + t).failed,
            held=one.base.ended_often,
            flapping=Situation(one.base, one.began_at + t).flapping,
        )

    def view(self, one: Controller, t: float) -> View:
        now, base = one.began_at + t, one.base
        voters = tuple(
            VoterState(name=voter.name, reachable=one.cable, term=self.holder_term, owner=self.holder)
            for voter in base.voters
        )
        heard = None
        if base.heard is not None:
            heard = msgspec.structs.replace(
                base.heard,
                interlink_at=one.interlink_at,
                advert_at=one.advert_at,
                carrier=self.carrier,
                links_up=one.links_up,
                links_since=one.links_since,
                peer=one.word,
            )
        return msgspec.structs.replace(
            base,
            settled=one.settled,
            owns=one.owns,
            term=one.term,
            confirmed_at=one.confirmed_at,
            owned_term=one.owned_term,
            begins=False,
            forced=False,
            resigned_at=one.resigned_at,
            voters=voters,
            heard=heard,
            disk_at=None if one.owns else one.disk_at,
            disk_since=(base.disk_since or min(now, one.began_at)) if one.cable else None,
            peer_idle_since=one.idle_since,
            peer_sees_since=one.sees_since,
            fault=one.fault,
        )

    def carry_out(self, one: Controller, decision: Decision, t: float) -> None:
        now, peer = one.began_at + t, self.of[other(one.node)]
        match decision.verdict:
            case Verdict.STAND_BY | Verdict.WAIT:
                one.owned_term = 0 if decision.rule == "DEPOSED" else one.owned_term
                one.owns = False
            case Verdict.RESIGN:
                one.owns, one.owned_term, one.resigned_at = False, 0, now
                if one.cable:
                    self.holder = None
                one.imported = False
            case Verdict.CLAIM if one.cable or not self.voters:
                self.holder_term = max(self.holder_term, one.term, peer.term) + 1
                self.holder = one.node
                one.owns, one.term, one.owned_term = True, self.holder_term, self.holder_term
                one.confirmed_at, one.resigned_at = now, None
            case _:
                pass
        if one.resigned_at is not None and now - one.resigned_at >= one.base.windows.resign_s:
            one.resigned_at = None
        one.ended |= one.imported and not one.owns and self.holder == peer.node


def _holder(a: View, b: View) -> tuple[Node | None, int]:
    """Who holds a majority of the disks, as the one says that sees them."""
    for view in (a, b):
        seen = Situation(view, 0.0)
        if seen.readable:
            nodes: tuple[Node, Node] = ("A", "B")
            holder = next((node for node in nodes if seen.held_by(node)), None)
            return holder, max(voter.term for voter in seen.reachable)
    owner = next((view for view in (a, b) if view.owns), None)
    return (owner.node, owner.term) if owner is not None else (None, max(a.term, b.term))


def supposed(mine: View, now: float) -> View:
    """What the other controller should see, where it does not say."""
    seen = Situation(mine, now)
    there = other(mine.node)
    owns = bool(seen.owner_signs) or seen.held_by(there)
    word = seen.word
    heard = mine.heard
    if heard is not None:
        of_mine = PeerWord(
            boot_id="",
            term=mine.term,
            owner=mine.owns,
            links_up=seen.links_up,
            hears_us=word is not None,
            settled=seen.settled,
            resigned=mine.resigned_at is not None,
            disks_ok=seen.disks_ok,
        )
        links_up = word.links_up if word is not None else True
        heard = Heard(
            since=heard.since,
            interlink_at=now if word is not None else None,
            advert_at=now if mine.owns and seen.links_up else None,
            carrier=heard.carrier,
            carrier_since=heard.carrier_since,
            links_up=links_up,
            links_since=now,
            peer=of_mine,
        )
    term = word.term if word is not None else max((voter.term for voter in seen.reachable), default=mine.term)
    sees = word.disks_ok if word is not None else True
    return msgspec.structs.replace(
        mine,
        node=there,
        settled=word is None or word.settled,
        owns=owns,
        term=term,
        confirmed_at=now if owns else None,
        owned_term=term if owns else 0,
        begins=False,
        forced=False,
        resigned_at=now if word is not None and word.resigned else None,
        voters=tuple(msgspec.structs.replace(voter, reachable=sees) for voter in mine.voters),
        heard=heard,
        disk_at=now if mine.owns else None,
        disk_since=now - 1.0 if sees else None,
        peer_idle_since=None,
        imported=(),
        fault=None,
        failed_at=now if word is not None and word.failed else None,
        ended_often=word is not None and word.held,
    )
