"""Why a controller is what it is: the rule that decided, and what it rests on with its ages."""

from __future__ import annotations

from middlewared.kernel.outlook import Explanation, Input
from middlewared.protocol.failover import RULES, decide
from middlewared.protocol.failover_view import Situation, View


def explain(view: View, seen_at: float, now: float) -> Explanation:
    """seen_at: when the view was made; ages are of that moment. All times are CLOCK_BOOTTIME."""
    decision = decide(view, seen_at)
    number, rule = next((n, rule) for n, rule in enumerate(RULES, 1) if rule.name == decision.rule)
    return Explanation(
        node=view.node,
        number=number,
        rule=rule.name,
        verdict=rule.verdict.name,
        why=decision.why,
        when=rule.when,
        serves=tuple(rule.serves.split()),
        inputs=tuple(_inputs(Situation(view, seen_at))),
        inputs_age_s=round(now - seen_at, 3),
    )


def _inputs(s: Situation) -> list[Input]:
    return [*_of_this_controller(s), *_of_the_disks(s), *_of_the_peer(s)]


def _of_this_controller(s: Situation) -> list[Input]:
    view, settings, heard = s.view, s.view.settings, s.view.heard
    told = [Input(name="settings", value=None, known=False)]
    if settings is not None:
        told = [
            Input(name="paired", value=settings.paired),
            Input(name="disabled", value=settings.disabled),
            Input(name="default controller", value=settings.default_node),
            Input(name="timeout in seconds", value=f"{s.timeout_s:g}"),
        ]
    links = Input(name="own networks", value=None, known=False)
    if heard is not None:
        links = Input(name="own networks", value="up" if heard.links_up else "lost", age_s=s.age(heard.links_since))
    return [
        *told,
        Input(name="owns", value=view.owns),
        Input(name="term", value=view.term),
        Input(name="boot is over", value=s.settled, age_s=s.age(view.booted_at)),
        Input(name="forced", value=view.forced),
        Input(name="begins anew", value=view.begins),
        links,
        Input(name="pools imported", value=len(view.imported)),
        Input(name="fault of a pool", value=view.fault),
        Input(name="resigned", value=view.resigned_at is not None, age_s=s.age(view.resigned_at)),
        Input(name="promotion failed", value=s.failed, age_s=s.age(view.failed_at)),
        Input(name="ended often", value=view.ended_often),
        Input(name="moves of the term", value=len(view.moves), age_s=s.age(view.moves[-1] if view.moves else None)),
    ]


def _of_the_disks(s: Situation) -> list[Input]:
    view = s.view
    held = ", ".join(f"{voter.name}: {voter.owner or 'free'} in term {voter.term}" for voter in s.reachable)
    return [
        Input(name="disks that answer", value=f"{len(s.reachable)} of {len(view.voters)}", known=view.disks_asked),
        Input(name="holders", value=held or None, known=bool(s.reachable)),
        Input(name="own term confirmed", value=view.owns and bool(s.mine), age_s=s.age(view.confirmed_at)),
        _channel(s, "the owner's heartbeat on the disks", "disks", view.disk_at, view.disk_since),
    ]


def _of_the_peer(s: Situation) -> list[Input]:
    heard, since = s.view.heard, s.view.heard_since
    told = [
        _channel(s, "heartbeat on the interlink", "interlink", heard.interlink_at if heard else None, since),
        _channel(s, "adverts on the network", "adverts", heard.advert_at if heard else None, since),
    ]
    if heard is not None:
        carrier = "up" if heard.carrier else "down"
        told.append(Input(name="carrier of the interlink", value=carrier, age_s=s.age(heard.carrier_since)))
    word = s.word
    if word is None:
        return [*told, Input(name=f"what {s.peer} says", value=None, known=False)]
    said = {
        "owns": word.owner,
        "term": word.term,
        "networks are up": word.links_up,
        "hears us": word.hears_us,
        "boot is over": word.settled,
        "resigned": word.resigned,
        "sees its disks": word.disks_ok,
        "promotion failed": word.failed,
        "held": word.held,
    }
    return [*told, *(Input(name=f"{s.peer}: {name}", value=value) for name, value in said.items())]


def _channel(s: Situation, name: str, sign: str, at: float | None, watched_since: float | None) -> Input:
    """heard, silent, or unknown where nobody watches."""
    fresh = sign in s.signs
    value = "heard" if fresh else "silent"
    return Input(name=name, value=value, known=fresh or watched_since is not None, age_s=s.age(at))
