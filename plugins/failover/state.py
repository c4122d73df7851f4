"""`failover.state`: all that there is to know of the pair at one moment, in one object."""

from __future__ import annotations

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.facts import Node, other
from middlewared.kernel.outlook import Icon, Permits, Reason
from middlewared.plugin import Call, ControllerFacts, query

from .outlook import availability_of
from .succession import Told, told_of


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other controller. heard: by its heartbeats on the interlink; connected: its log is followed.

    version: None while it is not connected. why_not: why it could not take over, empty where it could.
    """

    node: Node
    heard: bool
    connected: bool
    version: str | None
    promotable: bool
    why_not: str


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Seqs: see failover.sync.status. durability: the level at which a write would be answered now."""

    last_seq: int
    commit_seq: int
    applied_seq: int
    peer_durable_seq: int
    peer_applied_seq: int
    lag_events: int
    lag_ms: int
    durability: str
    digest_equal_at_seq: int


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The shared disks. holder: who owns the term, as far as it is known here."""

    holder: Node | None
    disks_ok: int
    disks_total: int


class VirtualAddress(msgspec.Struct, frozen=True, kw_only=True):
    """carp: INIT, BACKUP or MASTER here. answered_by_me: this controller's kernel answers for it."""

    vhid: int
    address: str
    interface: str
    carp: str
    answered_by_me: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Of the pair, as the controller that answers sees it.

    role: as failover.status. owner: the active controller, None while nobody is, or it is not known. serves: clients
    may come here. rule, why: by what this controller is what it is; rule is empty while fenced is not heard.
    last_transition: the newest of this controller's in failover.history.
    """

    node: Node
    role: str
    term: int
    owner: Node | None
    serves: bool
    since_s: float
    rule: str
    why: str
    icon: Icon
    available: bool
    reasons: tuple[Reason, ...]
    permits: Permits
    peer: Peer
    log: Log
    quarantined: int
    reservation: Reservation
    vips: tuple[VirtualAddress, ...]
    leaving: str | None
    failed: str | None
    last_transition: Told | None


ACTIVE = ("MASTER", "SINGLE", "IMPORTING")


@query("failover.state", roles=("FAILOVER_READ",))
async def state(call: Call) -> State:
    """The whole truth about failover, from memory: who is active and why, what is wrong, how far each log is."""
    facts = call.controller.facts()
    available = await availability_of(call)
    owner = _owner(call.node, facts)
    history = call.controller.succession.history()
    return State(
        node=call.node,
        role=facts.status,
        term=facts.term,
        owner=owner,
        serves=facts.serves,
        since_s=round(facts.since_s, 3),
        rule=_rule(call),
        why=facts.why,
        icon=available.icon,
        available=available.available,
        reasons=available.reasons,
        permits=available.permits,
        peer=_peer(call.node, facts, available.reasons),
        log=_log(facts),
        quarantined=facts.quarantined,
        reservation=Reservation(holder=owner, disks_ok=facts.disks_ok, disks_total=facts.disks_total),
        vips=tuple(
            VirtualAddress(
                vhid=vip.vhid,
                address=vip.address,
                interface=vip.interface,
                carp=vip.state,
                answered_by_me=vip.state == "MASTER",
            )
            for vip in facts.vips
        ),
        leaving=facts.leaving,
        failed=facts.failed,
        last_transition=told_of(history[-1]) if history else None,
    )


def _owner(node: Node, facts: ControllerFacts) -> Node | None:
    if facts.status in ACTIVE:
        return node
    return other(node) if facts.status == "BACKUP" and facts.peer_heard else None


def _peer(node: Node, facts: ControllerFacts, reasons: tuple[Reason, ...]) -> Peer:
    why_not = "; ".join(reason.text for reason in reasons)
    return Peer(
        node=other(node),
        heard=facts.peer_heard,
        connected=facts.peer_connected,
        version=facts.peer.version if facts.peer is not None else None,
        promotable=facts.paired and not why_not,
        why_not=why_not,
    )


def _log(facts: ControllerFacts) -> Log:
    return Log(
        last_seq=facts.last_seq,
        commit_seq=facts.commit_seq,
        applied_seq=facts.applied_seq,
        peer_durable_seq=facts.peer_durable_seq,
        peer_applied_seq=facts.peer_applied_seq,
        lag_events=facts.lag_events,
        lag_ms=facts.lag_ms,
        durability="pair" if len(facts.in_sync) > 1 and facts.peer_connected else "single",
        digest_equal_at_seq=facts.digest_equal_at_seq,
    )


def _rule(call: Call) -> str:
    try:
        return call.controller.outlook.explain().rule
    except CallFailed:
        return ""


METHODS = (state,)
