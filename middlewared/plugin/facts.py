"""What plugins are told of this controller, and what is made of it: alerts, and what a tail in quarantine changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from middlewared.kernel.facts import Node, SharedDisk, Sighting, VipState
from middlewared.kernel.outlook import Reason


class PeerBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the other controller runs. age: seen from here; "other": of the same age, and it knows other events.

    version: "" for the first build, which did not say it. log_format_max: the newest format that it can read.
    """

    version: str
    age: Literal["older", "same", "newer", "other"]
    log_format_max: int


class ControllerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that status methods tell, read at one instant.

    status: the string that clients know. why: the sentence of the rule that decided the role. halted: what the two logs
    contradict each other about, None while they do not. behind: why the configuration is read-only on the owner, None
    if it is not. Seqs: of the log; peer_*: as last acknowledged.
    peer_last_heard_ms: channel -> how long before fenced spoke last it was heard there; None: never.
    peer_refused: why the peer closed the line, None while it does not. peer_apart: why the versions of the two cannot
    read each other's log. apply_blocked: why nothing after applied_seq is applied here; peer_apply_blocked: there.
    log_format: in which the log goes on. peer: what the other controller runs, while the line is open. lag_events: not
    applied by the peer (on the standby: not applied here, of those committed). lag_ms: how long the oldest of them has
    waited (on the standby: how long it has not known itself to be level). digest_equal_at_seq: where the two states
    were last found equal. state_differs: the last difference that was found in this controller's state, until both are
    found equal at a later seq. no_room: why this controller's disk takes no more configuration, None while it does.
    log_damaged: the file, seq and fault of a record that could not be read for the peer, until it could.
    ended: why this controller ended itself, where that led to this boot. ended_often: so often that it claims no more.
    disks: serial numbers of the shared disks that answer this controller; None: not looked yet. pool_fault: why a pool
    that it has imported cannot be written. pools_degraded: pool -> what is the matter, while it can be written.
    shared_disks: the voters first. voting, peer_voting: the number of the voters' configuration that each of the two
    has taken up; None: the peer is not heard. disk_ok: the voters that this controller reaches, out of disks_total.
    serves: clients may come. leaving: why an owner hands over, or wants to. failed: why it could not do what it
    last took a term for. flapping: by this controller's count the active role moved too often.
    disagreements: what does not fit together between the two; only where alerts are judged, and empty elsewhere.
    """

    node: Node
    version: str
    boot_id: str
    uptime_s: float
    wall_ns: int
    status: Literal["SINGLE", "MASTER", "BACKUP", "ELECTING", "IMPORTING", "ERROR"]
    term: int
    since_s: float
    why: str
    halted: str | None
    behind: str | None
    paired: bool
    in_sync: tuple[Node, ...]
    last_seq: int
    commit_seq: int
    applied_seq: int
    peer_connected: bool
    peer_heard: bool
    peer_last_heard_ms: Mapping[str, int | None] = {}
    peer_refused: str | None
    peer_apart: str | None
    log_format: int
    peer: PeerBuild | None
    peer_durable_seq: int
    peer_applied_seq: int
    peer_apply_blocked: str | None
    lag_events: int
    lag_ms: int
    digest_equal_at_seq: int
    state_differs: str | None
    quarantined: int
    apply_blocked: str | None
    no_room: str | None
    ended: str | None = None
    ended_often: bool = False
    shared_disks: tuple[SharedDisk, ...] = ()
    voting: int = 0
    peer_voting: int | None = None
    log_damaged: str | None
    disks_ok: int
    disks_total: int
    disks: tuple[str, ...] | None
    pool_fault: str | None
    pools_degraded: Mapping[str, str]
    serves: bool
    leaving: str | None
    failed: str | None
    flapping: bool = False
    disagreements: tuple[Reason, ...] = ()
    active_urls: tuple[str, ...]
    vip_states: Mapping[str, str]
    vips: tuple[VipState, ...] = ()
    """What carpd says of each; empty while it is not there."""
    sightings: tuple[Sighting, ...] = ()
    """Strangers on the LAN, as carpd saw them in the last ten seconds."""
    stood_still_s: float = 0.0
    """The longest that this process stood still in the last minute."""
    effects: Mapping[str, str | None]
    """Effect -> why the world is not as the configuration says; None where it is."""

    @property
    def voters_changing(self) -> bool:
        """Whether two sets of disks vote."""
        return any(disk.changing for disk in self.shared_disks)


AlertLevel = Literal["INFO", "WARNING", "CRITICAL"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator must know, as it is told.

    id: stable while it holds: class, controller, and key where the class has several. text: what the class is about.
    formatted: what it is this time. datetime: since when it holds, {"$date": ms since 1970, UTC}.
    """

    id: str
    klass: str
    level: AlertLevel
    node: Node
    text: str
    formatted: str
    datetime: Mapping[str, int]
    dismissed: bool


@dataclass(frozen=True, kw_only=True)
class AlertSource:
    """Something that an operator must know while it holds; judged on each controller for itself.

    klass: its name. title: one sentence without particulars.
    holds: facts -> the sentence of this time, None where it does not hold; or key -> sentence, where it may hold of
    several things at once. Pure. after_s: how long it must have held before it is told.
    """

    klass: str
    level: AlertLevel
    title: str
    holds: Callable[[ControllerFacts], str | Mapping[str, str] | None]
    after_s: float = 0.0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field of one row, as it was where two logs parted, as a tail made it, as it is, and as it would be.

    again: after the tail's events were asked for again, now. A row that is not there has null in every field.
    conflict: it was changed since, to something else than the tail's. Secrets are masked.
    """

    noun: str
    table: str
    key: dict[str, object]
    field: str
    before: object
    quarantined: object
    now: object
    again: object
    conflict: bool
