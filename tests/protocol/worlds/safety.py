"""What must hold in every world, whatever each side knows of it, and in the world that follows from both verdicts.

S1  Never two active: both sides own, or go on owning while they claim, only while the loser knows nothing of the
    disks, has no word of the other, and the lease of its addresses still runs.
S2  No takeover against an owner that shows itself: while its heartbeat on the disks goes on, or this side hears it by
    heartbeat or advert, only an operator (FORCED) takes the term; and no ballot of anybody else wins against it.
S3  Somebody acts: where a controller is able to own and all waits are over, somebody owns within a few steps; and who
    is able, where the other is not and both hear each other.
S4  Nobody acts who may not: no claim without a majority of the disks, none of itself while failover is disabled or
    this controller is held, none before a frozen owner's lease is over; no term is given up but to a peer that will
    take it, nor while failover is disabled or the term moves too often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from middlewared.protocol.failover import RULES, Rule, Verdict, decide
from middlewared.protocol.failover_view import Windows
from tests.protocol.worlds.seen import KNOWN, NOW, Key, Known, key_of, view_of
from tests.protocol.worlds.world import DISKS, NONE, SIDES, Held, Ownership, Power, World

OWN_RULES = ("BEGINS", "REGAINS", "RESUMES")
"""They go on from a term that this controller owned; the disks refuse them where it is not its own any more."""

WINDOWS = Windows()
STEPS = 8


class Told(NamedTuple):
    rule: str
    verdict: Verdict
    owns: bool
    knows_disks: bool
    has_word: bool
    hears: bool


class Violation(NamedTuple):
    statement: str
    world: World
    told: tuple[Told | None, Told | None]


class Judge:
    """Decides for both sides of worlds and says what is violated. rules: the table that decides."""

    def __init__(self, rules: tuple[Rule, ...] = RULES) -> None:
        self._rules = rules
        self._told: dict[Key, tuple[Told, ...]] = {}
        self._judged: dict[World, tuple[Violation, ...]] = {}
        self.hits: Counter[str] = Counter()
        self.worlds = 0
        self.successors = 0

    @property
    def views(self) -> int:
        return len(self._told) * len(KNOWN)

    def violations(self, world: World) -> Iterator[Violation]:
        """Of the world, of every world that may follow from it, and of where it leads."""
        self.worlds += 1
        sides = self._sides(world)
        yield from self._unsafe(world, sides)
        for after in self._successors(world, sides):
            if after not in self._judged:
                self.successors += 1
                self._judged[after] = tuple(self._unsafe(after, self._sides(after)))
            yield from self._judged[after]
        if world.since_s > WINDOWS.settle_s and not self._somebody_owns_soon(world):
            yield Violation("S3", world, (self._all_known(world, 0), self._all_known(world, 1)))

    # What both sides are told

    def _sides(self, world: World) -> tuple[tuple[Told, ...], tuple[Told, ...]]:
        """For each side that runs, all that it may be told, by what it knows."""
        return (
            self._of(key_of(world, 0)) if world.runs(0) else (),
            self._of(key_of(world, 1)) if world.runs(1) else (),
        )

    def _of(self, key: Key) -> tuple[Told, ...]:
        told = self._told.get(key)
        if told is None:
            told = self._told[key] = tuple(dict.fromkeys(self._decided(key, known) for known in KNOWN))
        return told

    def _decided(self, key: Key, known: Known) -> Told:
        decision = decide(view_of(key, known), NOW, self._rules)
        self.hits[decision.rule] += 1
        return Told(
            decision.rule,
            decision.verdict,
            owns=decision.verdict is Verdict.OWN or (decision.verdict is Verdict.CLAIM and key.believes > 0),
            knows_disks=key.cable and known.disks != "none",
            has_word=known.carpd == "all" and key.word is not None,
            hears=known.carpd == "all" and (key.word is not None or key.advert),
        )

    def _all_known(self, world: World, side: int) -> Told | None:
        return self._of(key_of(world, side))[0] if world.runs(side) else None

    # The statements

    def _unsafe(self, world: World, sides: tuple[tuple[Told, ...], tuple[Told, ...]]) -> Iterator[Violation]:
        owning = [[told for told in side if told.owns] for side in sides]
        if owning[0] and owning[1]:
            loser = 1 if world.holder() == 0 else 0
            for told in owning[loser]:
                if told.knows_disks or told.has_word or world.since_s > WINDOWS.lease_s:
                    yield Violation("S1", world, (owning[0][0], owning[1][0]))
        for side in (0, 1):
            for told in sides[side]:
                faults: Iterator[str] = iter(())
                if told.verdict is Verdict.CLAIM:
                    faults = _claim_faults(world, side, told)
                elif told.verdict is Verdict.RESIGN:
                    faults = _resign_faults(world, side, told)
                for statement in faults:
                    yield Violation(statement, world, (told, None) if side == 0 else (None, told))

    def _somebody_owns_soon(self, world: World) -> bool:
        """Whether, where somebody is able to, somebody owns after a few steps in which all is known and time passes."""
        if world.odd.disabled or not any(_is_able(world, side) for side in (0, 1)):
            return True
        for _ in range(STEPS):
            told = (self._all_known(world, 0), self._all_known(world, 1))
            owners = [side for side, one in enumerate(told) if one is not None and one.verdict is Verdict.OWN]
            if owners and not (world.since_s > WINDOWS.settle_s and any(_is_better(world, 1 - one) for one in owners)):
                return True
            after = next(_after(world, told))
            if after == world and world.since_s > WINDOWS.settle_s:
                return False
            world = after._replace(since_s=30.0 if after == world else 0.5)
        return False

    # What follows

    def _successors(self, world: World, sides: tuple[tuple[Told, ...], tuple[Told, ...]]) -> Iterator[World]:
        quiet = (Verdict.OWN, Verdict.WAIT) if any(world.ownership.believes) else (Verdict.STAND_BY, Verdict.WAIT)
        if all(told.verdict in quiet for side in sides for told in side):
            return
        acts = [{(told.rule, told.verdict): told for told in side}.values() or (None,) for side in sides]
        for one in acts[0]:
            for two in acts[1]:
                for after in _after(world, (one, two)):
                    if after.ownership != world.ownership:
                        yield after._replace(since_s=0.05)


def _claim_faults(world: World, side: int, told: Told) -> Iterator[str]:
    """What is wrong with a claim that this side is told."""
    peer, odd = 1 - side, world.odd
    if told.rule not in ("FORCED", *OWN_RULES):
        # A side that is out of reach of the disks cannot win, but it cannot know either, and would go on trying.
        if not told.knows_disks or odd.disabled or odd.held[side]:
            yield "S4"
        if world.beats(peer) or (told.hears and _shows_itself(world, peer)):
            yield "S2"
        frozen = world.power[peer] is Power.FROZEN and world.ownership.believes[peer] > 0
        if frozen and world.interlink.carrier and world.since_s < WINDOWS.lease_s:
            yield "S4"
    elif told.rule == "FORCED":
        if not odd.forced[side]:
            yield "S4"
    elif not (world.ownership.believes[side] or world.ownership.owned[side]):
        yield "S4"


def _resign_faults(world: World, side: int, told: Told) -> Iterator[str]:
    """What is wrong with a term given up. A word that was said just before it became so is still believed."""
    if not _may_resign(world, side) and (told.has_word or world.since_s > WINDOWS.interlink_dead_s):
        yield "S4"


def _shows_itself(world: World, side: int) -> bool:
    """Whether the owner on that side is heard by the other one."""
    if not world.ownership.believes[side] or not world.runs(side):
        return False
    return world.interlink.passes[side] or world.lan.passes[side]


def _may_resign(world: World, side: int) -> bool:
    """Whether there is a peer that takes at once what this side gives up."""
    peer, odd = 1 - side, world.odd
    barred = odd.held[peer] or odd.failed[peer] or odd.fault[peer] or not world.cable[peer]
    return not (odd.disabled or odd.flapping or barred) and world.runs(peer) and all(world.interlink.passes)


def _is_better(world: World, side: int) -> bool:
    """Whether this side, which does not own, is able where the owner lacks disks, and both know it."""
    networks = world.lan.links[side] or not world.lan.links[1 - side]
    lacks = world.odd.fault[1 - side] or not world.cable[1 - side]
    return networks and lacks and _is_able(world, side) and _may_resign(world, 1 - side)


def _is_able(world: World, side: int) -> bool:
    odd = world.odd
    barred = odd.held[side] or odd.failed[side] or odd.fault[side]
    return world.power[side] is Power.UP and world.cable[side] and not barred


def _after(world: World, told: tuple[Told | None, Told | None]) -> Iterator[World]:
    """The worlds that may come of both verdicts: two ballots at once are won by either, or by nobody."""
    own = world.ownership
    for side in (0, 1):
        one = told[side]
        if one is None:
            continue
        if one.verdict is Verdict.STAND_BY or one.verdict is Verdict.WAIT:
            own = own._replace(believes=_with(own.believes, side, 0))
        elif one.verdict is Verdict.RESIGN:
            own = _resigned(own, side)
    # Who is forced is so for one ballot, won or lost.
    standing = world._replace(ownership=own, odd=world.odd._replace(forced=NONE))
    claims = [
        won
        for side in (0, 1)
        if (one := told[side]) is not None and one.verdict is Verdict.CLAIM
        if (won := _won(standing, side, one)) is not None
    ]
    yield from claims or (standing,)


def _resigned(own: Ownership, side: int) -> Ownership:
    freed = [Held(None, held.term) if held.owner == SIDES[side] else held for held in own.disks]
    gave = own.resigned[0] or side == 0, own.resigned[1] or side == 1
    return Ownership(
        _with(own.believes, side, 0), (freed[0], freed[1], freed[2]), _with(own.owned, side, 0), resigned=gave
    )


def _won(world: World, side: int, told: Told) -> World | None:
    """The world after this side's ballot; None where it is lost: as protocol/ballot.py has it."""
    own = world.ownership
    if not world.cable[side]:
        return None
    term = max(held.term for held in own.disks)
    rests_on = own.owned[side] if told.rule in OWN_RULES else max(term, *own.believes)
    rival = sum(held.owner == SIDES[1 - side] and held.term > rests_on for held in own.disks)
    if told.rule != "FORCED" and rival > DISKS // 2:
        return None
    new = max(term, *own.believes) + 1
    disks = (Held(SIDES[side], new),) * 3
    ownership = Ownership(_with(own.believes, side, new), disks, _with(own.owned, side, new))
    return world._replace(ownership=ownership, odd=world.odd._replace(begins=False))


def _with(pair: tuple[int, int], side: int, value: int) -> tuple[int, int]:
    return (value, pair[1]) if side == 0 else (pair[0], value)
