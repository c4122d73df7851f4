"""Where this controller stands, as fenced says it to the other two processes."""

from __future__ import annotations

from middlewared.fenced.disks import Disks
from middlewared.fenced.facts import Facts
from middlewared.fenced.fencing import Fencing
from middlewared.protocol import hub
from middlewared.protocol.failover import Decision
from middlewared.protocol.failover_view import Situation


def standing_of(
    facts: Facts, disks: Disks, fencing: Fencing, decision: Decision, scheduling: str, now: float
) -> hub.Standing:
    """The whole statement. scheduling: what real-time treatment fenced got."""
    serving = facts.serving
    situation = Situation(facts.view(disks, now), now)
    return hub.Standing(
        role=facts.role,
        term=facts.term if facts.owns or facts.role == "SINGLE" else facts.known_term(disks),
        since=facts.role_since,
        said_at=now,
        why=decision.why,
        rule=decision.rule,
        record=facts.record,
        voters=disks.states(),
        others=disks.others(),
        voting=facts.voting,
        peer_voting=None if (word := facts.word(now)) is None else word.voting,
        peer_interlink_at=facts.interlink_at,
        peer_advert_at=facts.advert_at,
        peer_disk_at=disks.beat_at(),
        settled=facts.settled,
        resigned=facts.resigned_at is not None,
        scheduling=scheduling,
        serves=facts.role == "SINGLE" or (facts.owns and serving.serves),
        leaving=serving.leaving,
        leaves_by=serving.leaves_by,
        failed=serving.failed if situation.failed else None,
        disks_ok=situation.disks_ok,
        held=facts.ended_often,
        flapping=situation.flapping,
        fencing=fencing.result(disks.held(facts.term)) if facts.owns else None,
        ended=None if facts.ended is None else hub.Ended(wall_ns=facts.ended.wall_ns, why=facts.ended.why),
        decided_at=serving.decided_at if facts.owns else None,
        last_sign_at=serving.last_sign_at if facts.owns else None,
        lost=facts.lost,
    )


def news(standing: hub.Standing) -> tuple[object, ...]:
    """What of it a listener acts on; ages and the wording change all the time."""
    s = standing
    peer_is_told = (s.settled, s.resigned, s.disks_ok, s.failed, s.held, s.flapping)
    disks = (s.voters, s.others, s.fencing, s.voting, s.peer_voting)
    return (s.role, s.term, s.rule, s.record, disks, s.serves, s.leaving, peer_is_told)
