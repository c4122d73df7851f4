"""`failover.state`: all that there is to know of the pair at one moment, in one object."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.facts import FailoverGroup, Node, SharedDisk, other
from middlewared.kernel.outlook import Icon, Permits, Reason, Side
from middlewared.plugin import Call, ControllerFacts, query

from .outlook import availability_of
from .succession import Told, told_of


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other controller. heard: by its heartbeats on the interlink; connected: its log is followed.

    role: as its failover.status; log_format: the newest that it can read. Both and version are None while it is not
    connected. why_not: why it could not take over, empty where it could; what is wrong with the controller that answers
    is no reason.
    """

    node: Node
    heard: bool
    connected: bool
    role: str | None
    version: str | None
    log_format: int | None
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
    """The shared disks. holder: who holds a majority of the voters, as the controller that answers sees it."""

    holder: Node | None
    disks_ok: int
    disks_total: int


class VirtualAddress(msgspec.Struct, frozen=True, kw_only=True):
    """carp: INIT, BACKUP or MASTER here. answered_by_me: this controller's kernel answers for it.

    group: the failover group of its interface, None where that is not critical.
    """

    vhid: int
    address: str
    interface: str
    group: int | None
    carp: str
    answered_by_me: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Of the pair, as the controller that answers sees it.

    role: as failover.status. owner: the active controller, None while nobody is, or it is not known. serves: clients
    may come here. rule, why: by what this controller is what it is now; rule is empty while fenced is not heard, or
    where the log has halted.
    last_heard_ms: how long before fenced spoke last the other controller was heard on each channel; None: never.
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
    last_heard_ms: Mapping[str, int | None]
    log: Log
    quarantined: int
    reservation: Reservation
    vips: tuple[VirtualAddress, ...]
    leaving: str | None
    failed: str | None
    last_transition: Told | None


NODES: tuple[Node, ...] = ("A", "B")
ACTIVE = ("MASTER", "SINGLE", "IMPORTING")


@query("failover.state", roles=("FAILOVER_READ",))
async def state(call: Call) -> State:
    """The whole truth about failover, from memory: who is active and why, what is wrong, how far each log is."""
    facts = call.controller.facts()
    available = await availability_of(call)
    peer = call.controller.outlook.peer_side()
    holder = _holder(facts.shared_disks)
    rule, why = _decided(call, facts)
    groups = msgspec.convert(await call.query("interface.failover_groups"), tuple[FailoverGroup, ...])
    group_of = {interface: group.number for group in groups for interface in group.interfaces}
    history = call.controller.succession.history()
    return State(
        node=call.node,
        role=facts.status,
        term=facts.term,
        owner=_owner(call.node, facts, peer, holder),
        serves=facts.serves,
        since_s=round(facts.since_s, 3),
        rule=rule,
        why=why,
        icon=available.icon,
        available=available.available,
        reasons=available.reasons,
        permits=available.permits,
        peer=_peer(call.node, facts, peer, available.reasons),
        last_heard_ms=facts.peer_last_heard_ms,
        log=_log(facts),
        quarantined=facts.quarantined,
        reservation=Reservation(holder=holder, disks_ok=facts.disks_ok, disks_total=facts.disks_total),
        vips=tuple(
            VirtualAddress(
                vhid=vip.vhid,
                address=vip.address,
                interface=vip.interface,
                group=group_of.get(vip.interface),
                carp=vip.state,
                answered_by_me=vip.state == "MASTER",
            )
            for vip in facts.vips
        ),
        leaving=facts.leaving,
        failed=facts.failed,
        last_transition=told_of(history[-1]) if history else None,
    )


def _holder(disks: tuple[SharedDisk, ...]) -> Node | None:
    """While two sets vote, of each of them."""
    for node in NODES:
        votes = [[disk.reachable and disk.owner == node for disk in disks if n in disk.sets] for n in (0, 1)]
        if any(votes) and all(sum(of_set) * 2 > len(of_set) for of_set in votes if of_set):
            return node
    return None


def _owner(node: Node, facts: ControllerFacts, peer: Side | None, holder: Node | None) -> Node | None:
    """What the other one says of itself, else what its reservation says."""
    if facts.status in ACTIVE:
        return node
    if peer is not None:
        return other(node) if peer.status in ACTIVE else None
    return holder if holder != node else None


def _peer(node: Node, facts: ControllerFacts, peer: Side | None, reasons: tuple[Reason, ...]) -> Peer:
    why_not = "; ".join(reason.text for reason in reasons if reason.node != node)
    return Peer(
        node=other(node),
        heard=facts.peer_heard,
        connected=facts.peer_connected,
        role=peer.status if peer is not None else None,
        version=facts.peer.version if facts.peer is not None else None,
        log_format=facts.peer.log_format_max if facts.peer is not None else None,
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


def _decided(call: Call, facts: ControllerFacts) -> tuple[str, str]:
    """Rule and sentence of one decision. A log that halted has no rule and is its own reason."""
    if facts.halted is not None:
        return "", facts.halted
    try:
        explained = call.controller.outlook.explain()
    except CallFailed:
        return "", facts.why
    return explained.rule, explained.why


METHODS = (state,)
