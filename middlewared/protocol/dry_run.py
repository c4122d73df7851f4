"""What a fault would lead to: both controllers decide on, on a clock of their own, until nothing changes any more.

The rules are those that decide in fenced. Around them stands the smallest model of the pair that they can see: who
runs, what is carried between the two, who reaches the disks, who holds them. A ballot is won by who reaches the disks,
and takes no time; an owner that has pools needs none to export them. So times are those of detection, and what follows
a takeover (imports, services) comes on top.

The other controller's view is its own where it says it; otherwise it is taken to see what it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from middlewared.kernel.facts import Node
from middlewared.kernel.outlook import Forecast, Step
from middlewared.protocol.dry_run_model import Controller, Pair, supposed
from middlewared.protocol.failover import RULES, Decision, Verdict, decide
from middlewared.protocol.failover_view import Situation, View

HORIZON_S = 45.0
FINE_S = 0.02
FINE_UNTIL_S = 4.0
COARSE_S = 0.25
QUIET_S = 26.0
"""Nothing happens any more when nothing did for so long: longer than any window but that of a failed promotion."""

NUMBERS = {rule.name: number for number, rule in enumerate(RULES, 1)}


# The faults


def _cut_interlink(pair: Pair, me: Controller, peer: Controller) -> None:
    pair.carrier = False


def _silence_interlink(pair: Pair, me: Controller, peer: Controller) -> None:
    pair.passes = {"A": False, "B": False}


def _lose_networks(pair: Pair, one: Controller) -> None:
    if one.links_up:
        one.links_up, one.links_since = False, one.began_at
    pair.adverts[one.node] = False


def _die(pair: Pair, one: Controller) -> None:
    _freeze(pair, one)
    one.dead, one.owns, pair.carrier = True, False, False


def _freeze(pair: Pair, one: Controller) -> None:
    one.runs = False


def _lose_shelf(pair: Pair, one: Controller) -> None:
    one.cable = False


def _part(pair: Pair, me: Controller, peer: Controller) -> None:
    _silence_interlink(pair, me, peer)
    pair.adverts = {"A": False, "B": False}


def _lose_all_networks(pair: Pair, me: Controller, peer: Controller) -> None:
    _lose_networks(pair, me)
    _lose_networks(pair, peer)


def _suspend(pair: Pair, me: Controller, peer: Controller) -> None:
    owner = pair.owner()
    if owner is not None:
        pair.of[owner].fault = "a pool is suspended"


Fault = Callable[[Pair, Controller, Controller], None]

FAULTS: dict[str, tuple[str, Fault]] = {
    "interlink": ("the interlink loses its carrier", _cut_interlink),
    "interlink_silent": ("the interlink carries nothing", _silence_interlink),
    "lan": ("{me} loses its networks", lambda pair, me, peer: _lose_networks(pair, me)),
    "lan_peer": ("{peer} loses its networks", lambda pair, me, peer: _lose_networks(pair, peer)),
    "switch": ("both lose their networks", _lose_all_networks),
    "partition": ("nothing is carried between the two, and all links stay up", _part),
    "shelf": ("{me} loses its cables to the disks", lambda pair, me, peer: _lose_shelf(pair, me)),
    "shelf_peer": ("{peer} loses its cables to the disks", lambda pair, me, peer: _lose_shelf(pair, peer)),
    "i_die": ("{me} loses power", lambda pair, me, peer: _die(pair, me)),
    "peer_dies": ("{peer} loses power", lambda pair, me, peer: _die(pair, peer)),
    "i_freeze": ("{me} freezes", lambda pair, me, peer: _freeze(pair, me)),
    "peer_freezes": ("{peer} freezes", lambda pair, me, peer: _freeze(pair, peer)),
    "pool_suspends": ("a pool of the active controller is suspended", _suspend),
}


def dry_run(fault: str, mine: View, my_time: float, theirs: View | None, their_time: float) -> Forecast:
    """What follows `fault` (a key of FAULTS), as it is named from the side of `mine`.

    my_time, their_time: when each view was made, each by its own CLOCK_BOOTTIME. theirs None: it does not say.
    """
    peer_known = theirs is not None
    if theirs is None:
        theirs, their_time = supposed(mine, my_time), my_time
    me, peer = Controller(mine, my_time), Controller(theirs, their_time)
    pair = Pair(me, peer) if me.node == "A" else Pair(peer, me)
    what, happen = FAULTS[fault]
    before = pair.owner()
    happen(pair, me, peer)
    steps, unowned_s = _live(pair)
    said = what.format(me=me.node, peer=peer.node)
    ends = tuple(node for node, one in pair.of.items() if one.ended)
    return Forecast(
        fault=fault,
        text=f"If {said}: {_outcome(pair, before, steps, unowned_s, ends)}.",
        before=before,
        after=pair.owner(),
        unowned_s=round(unowned_s, 2),
        ends=ends,
        peer_known=peer_known,
        steps=tuple(steps),
    )


def _live(pair: Pair) -> tuple[list[Step], float]:
    """Go on until nothing changes; each change of a rule is a step. And for how long nobody owned."""
    steps: list[Step] = []
    unowned_s, last_s, changed_s = 0.0, 0.0, 0.0
    for t in _moments():
        if pair.owner() is None:
            unowned_s += t - last_s
        last_s = t
        pair.hear(t)
        for one in pair.of.values():
            if not one.runs:
                continue
            view = pair.view(one, t)
            one.settled = Situation(view, one.began_at + t).settled
            decision = decide(view, one.began_at + t)
            if one.told is None or one.told.rule != decision.rule:
                if (t > 0 and one.told is not None) or decision.verdict in (Verdict.CLAIM, Verdict.RESIGN):
                    steps.append(_step(one, decision, t))
                changed_s = t
            one.told = decision
            pair.carry_out(one, decision, t)
        if t - changed_s > QUIET_S:
            break
    return steps, unowned_s


def _moments() -> Iterator[float]:
    for count in range(round(FINE_UNTIL_S / FINE_S)):
        yield count * FINE_S
    for count in range(round((HORIZON_S - FINE_UNTIL_S) / COARSE_S)):
        yield FINE_UNTIL_S + count * COARSE_S


def _step(one: Controller, decision: Decision, t: float) -> Step:
    return Step(
        after_s=round(t, 2),
        node=one.node,
        number=NUMBERS[decision.rule],
        rule=decision.rule,
        verdict=decision.verdict.name,
        why=decision.why,
    )


def _outcome(pair: Pair, before: Node | None, steps: list[Step], unowned_s: float, ends: tuple[Node, ...]) -> str:
    after = pair.owner()
    if after is None:
        said = "nobody owns the disks" if before is None else f"{before} owns no more, and nobody takes over"
    elif after == before:
        said = f"{after} stays active"
    else:
        taken = next((step for step in reversed(steps) if step.node == after and step.verdict == "CLAIM"), None)
        said = f"{after} takes over" + (f" {taken.after_s:g} s later ({taken.rule})" if taken is not None else "")
    if ends:
        said += f"; {' and '.join(ends)} ends itself, because it has pools and lost its term"
    return said
