"""Every alert of this product: class, level, and the condition over this controller's facts.

A new one: a fact in ControllerFacts if it needs one, and an entry here. The sentence says what is so and names the
controller and what to look at, since both controllers' alerts are read in one list; docs/what-if.md says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from middlewared.kernel.event import LOG_FORMAT
from middlewared.kernel.facts import other
from middlewared.plugin import AlertSource, ControllerFacts

NOT_IN_SYNC_S = 5.0
UNREACHABLE_S = 1.0
DISK_LOST_S = 5.0
"""Each controller looks at its disks every 2 s, so that one which comes or goes is noticed by the two in turn."""
VIPS_DISAGREE_S = 2.0
"""What the other controller holds is known a moment later; while the role moves neither does for a moment."""
STOOD_STILL_S = 0.7
"""Much longer than a busy machine takes; the watchdog ends what stands still for WatchdogSec."""
FOREIGN_S = 12.0
"""Longer than a sighting is remembered: the other controller's last advert of a number that the pair has just given up
is no stranger's."""
DUPLICATE_ADVERTS = 3
"""While a pair gets another key, an advert or two of the other controller may come under the old one."""


def quarantine(facts: ControllerFacts) -> str | None:
    if facts.quarantined == 0:
        return None
    return f"{facts.quarantined} events lie in quarantine on controller {facts.node} and wait for a decision"


def log_halted(facts: ControllerFacts) -> str | None:
    return f"Controller {facts.node} has halted: {facts.halted}" if facts.halted is not None else None


def promotion_failed(facts: ControllerFacts) -> str | None:
    return f"Controller {facts.node} could not take over: {facts.failed}" if facts.failed is not None else None


def stood_still(facts: ControllerFacts) -> str | None:
    if facts.stood_still_s < STOOD_STILL_S:
        return None
    return f"middlewared of controller {facts.node} stood still for {facts.stood_still_s:.1f} s in the last minute"


def peer_refuses(facts: ControllerFacts) -> str | None:
    if facts.peer_refused is None:
        return None
    return f"Controller {other(facts.node)} refuses controller {facts.node}: {facts.peer_refused}"


def apply_blocked(facts: ControllerFacts) -> str | None:
    if facts.apply_blocked is None:
        return None
    return f"Controller {facts.node} applies nothing more: {facts.apply_blocked}"


def disk_full(facts: ControllerFacts) -> str | None:
    return f"Controller {facts.node} takes no configuration: {facts.no_room}" if facts.no_room is not None else None


def log_damaged(facts: ControllerFacts) -> str | None:
    if facts.log_damaged is None:
        return None
    return f"Controller {facts.node} cannot give a record to controller {other(facts.node)}: {facts.log_damaged}"


def pool_fault(facts: ControllerFacts) -> str | None:
    if facts.pool_fault is None:
        return None
    return f"A pool of controller {facts.node} takes no more writes: {facts.pool_fault}"


def pool_degraded(facts: ControllerFacts) -> Mapping[str, str]:
    degraded = facts.pools_degraded.items()
    return {name: f"Pool {name} of controller {facts.node} goes on, but: {what}" for name, what in degraded}


def state_differs(facts: ControllerFacts) -> str | None:
    if facts.state_differs is None:
        return None
    there = f"controller {other(facts.node)}"
    return f"The state of controller {facts.node} differed from what the log and {there} say: {facts.state_differs}"


def versions_differ(facts: ControllerFacts) -> str | None:
    if facts.peer_apart is not None:
        return f"Controller {facts.node} and the other one cannot read each other's log: {facts.peer_apart}"
    if facts.peer is None or facts.peer.age == "same":
        return None
    theirs = facts.peer.version or "an older version"
    return f"Controller {other(facts.node)} runs {theirs}, controller {facts.node} {facts.version}"


def upgrade_pending(facts: ControllerFacts) -> str | None:
    if facts.status not in ("SINGLE", "MASTER") or facts.log_format >= LOG_FORMAT:
        return None
    if facts.paired and (facts.peer is None or facts.peer.log_format_max < LOG_FORMAT):
        return None
    format_ = f"Controller {facts.node} writes the log in format {facts.log_format}"
    return f"{format_}; call upgrade.finalize when this version shall stay"


def peer_unreachable(facts: ControllerFacts) -> str | None:
    if not facts.paired or facts.peer_connected or facts.peer_refused is not None:
        return None
    heard = "; its heartbeats are heard" if facts.peer_heard else ""
    return f"Controller {other(facts.node)} does not answer controller {facts.node} on the interlink{heard}"


def ended(facts: ControllerFacts) -> str | None:
    return f"Controller {facts.node} ended itself, and booted anew: {facts.ended}" if facts.ended is not None else None


def ended_often(facts: ControllerFacts) -> str | None:
    if not facts.ended_often:
        return None
    often = f"Controller {facts.node} ended itself three times in ten minutes"
    return f"{often}: only failover.force_master lets it be active again"


def flapping(facts: ControllerFacts) -> str | None:
    if not facts.flapping:
        return None
    often = f"The active role moved three times in ten minutes, as controller {facts.node} counts"
    return f"{often}: a lost network or pool moves it no more, the loss of a controller does"


def vips_disagree(facts: ControllerFacts) -> Mapping[str, str]:
    found = [reason for reason in facts.disagreements if reason.code == "DISAGREE_VIP"]
    return {str(reason.detail["address"]): f"{_here(facts)}: {reason.text}" for reason in found}


def disks_differ(facts: ControllerFacts) -> str | None:
    found = [reason.text for reason in facts.disagreements if reason.code == "MISMATCH_DISKS"]
    return f"{_here(facts)}: {found[0]}" if found else None


def _here(facts: ControllerFacts) -> str:
    return f"Seen from controller {facts.node}"


def peer_not_in_sync(facts: ControllerFacts) -> str | None:
    if facts.status != "MASTER" or not facts.peer_connected or len(facts.in_sync) > 1:
        return None
    behind = facts.last_seq - facts.peer_durable_seq
    there = f"Controller {other(facts.node)}"
    return f"{there} is not in sync: it holds {behind} events less than controller {facts.node}"


def vip_conflict(facts: ControllerFacts) -> Mapping[str, str]:
    return {
        seen.address: f"Somebody else has the virtual address {seen.address}: on {seen.interface} of controller "
        f"{facts.node}, {seen.how} names the MAC {seen.who} for it ({seen.count} times)"
        for seen in facts.sightings
        if seen.kind == "VIP_CONFLICT"
    }


def duplicate_vhid(facts: ControllerFacts) -> Mapping[str, str]:
    return {
        str(seen.vhid): f"VHID {seen.vhid}, that of {seen.address}, is in use by somebody else on {seen.interface} "
        f"of controller {facts.node}: {seen.count} {seen.how} from {seen.who} that this pair's key did not sign"
        for seen in facts.sightings
        if seen.kind == "DUPLICATE_VHID" and seen.count >= DUPLICATE_ADVERTS
    }


def foreign_vhid(facts: ControllerFacts) -> Mapping[str, str]:
    return {
        f"{seen.interface}-{seen.vhid}": f"Another router uses VHID {seen.vhid} on {seen.interface} of controller "
        f"{facts.node}, which no virtual address of this pair has there: {seen.how} from {seen.who}"
        for seen in facts.sightings
        if seen.kind == "FOREIGN_VHID"
    }


def effects_failing(facts: ControllerFacts) -> Mapping[str, str]:
    failing = {name: why for name, why in facts.effects.items() if why is not None}
    return {name: f"{name} on controller {facts.node}: {why}" for name, why in failing.items()}


def shared_disk_lost(facts: ControllerFacts) -> Mapping[str, str]:
    if facts.status == "SINGLE":
        return {}
    silent = [disk for disk in facts.shared_disks if not disk.reachable]
    return {disk.serial: f"{disk.serial} does not answer on controller {facts.node}: {disk.error}" for disk in silent}


SOURCES = (
    AlertSource(
        klass="QuarantineNotEmpty",
        level="WARNING",
        title="Events lie in quarantine",
        holds=quarantine,
    ),
    AlertSource(
        klass="LogHalted",
        level="CRITICAL",
        title="A controller has halted: the two logs contradict each other",
        holds=log_halted,
    ),
    AlertSource(
        klass="PromotionFailed",
        level="CRITICAL",
        title="A controller could not take over",
        holds=promotion_failed,
    ),
    AlertSource(
        klass="PeerRefuses",
        level="CRITICAL",
        title="The other controller refuses the line",
        holds=peer_refuses,
        after_s=UNREACHABLE_S,
    ),
    AlertSource(
        klass="ApplyBlocked",
        level="CRITICAL",
        title="The log holds an event that cannot be applied",
        holds=apply_blocked,
    ),
    AlertSource(
        klass="DiskFull",
        level="CRITICAL",
        title="The disk of the log has no room",
        holds=disk_full,
    ),
    AlertSource(
        klass="LogDamaged",
        level="CRITICAL",
        title="The log of a controller is damaged",
        holds=log_damaged,
    ),
    AlertSource(
        klass="StateDiffers",
        level="CRITICAL",
        title="The states of the two controllers differ",
        holds=state_differs,
    ),
    AlertSource(
        klass="VersionsDiffer",
        level="WARNING",
        title="The two controllers run different versions",
        holds=versions_differ,
    ),
    AlertSource(
        klass="UpgradePending",
        level="INFO",
        title="An upgrade waits to be finished",
        holds=upgrade_pending,
    ),
    AlertSource(
        klass="PeerUnreachable",
        level="CRITICAL",
        title="The other controller is not reached",
        holds=peer_unreachable,
        after_s=UNREACHABLE_S,
    ),
    AlertSource(
        klass="PeerNotInSync",
        level="CRITICAL",
        title="The other controller is not in sync",
        holds=peer_not_in_sync,
        after_s=NOT_IN_SYNC_S,
    ),
    AlertSource(
        klass="PoolFault",
        level="CRITICAL",
        title="A pool cannot be written",
        holds=pool_fault,
    ),
    AlertSource(
        klass="PoolDegraded",
        level="WARNING",
        title="A pool has lost redundancy or data",
        holds=pool_degraded,
    ),
    AlertSource(
        klass="StoodStill",
        level="WARNING",
        title="middlewared does not keep up",
        holds=stood_still,
    ),
    AlertSource(
        klass="VipConflict",
        level="CRITICAL",
        title="Somebody else has a virtual address",
        holds=vip_conflict,
    ),
    AlertSource(
        klass="DuplicateVhid",
        level="WARNING",
        title="Somebody else advertises a VHID of this pair",
        holds=duplicate_vhid,
    ),
    AlertSource(
        klass="ForeignVhid",
        level="INFO",
        title="Another router has a VHID of its own on a network of this pair",
        holds=foreign_vhid,
        after_s=FOREIGN_S,
    ),
    AlertSource(
        klass="ControllerEnded",
        level="WARNING",
        title="A controller ended itself",
        holds=ended,
    ),
    AlertSource(
        klass="EndedOften",
        level="CRITICAL",
        title="A controller ends itself again and again",
        holds=ended_often,
    ),
    AlertSource(
        klass="Flapping",
        level="WARNING",
        title="The active role moves too often and is held",
        holds=flapping,
    ),
    AlertSource(
        klass="VipsDisagree",
        level="CRITICAL",
        title="Both controllers hold a virtual address, or neither does",
        holds=vips_disagree,
        after_s=VIPS_DISAGREE_S,
    ),
    AlertSource(
        klass="DisksDiffer",
        level="WARNING",
        title="The two controllers see different disks",
        holds=disks_differ,
        after_s=DISK_LOST_S,
    ),
    AlertSource(
        klass="SharedDiskLost",
        level="WARNING",
        title="A shared disk does not answer",
        holds=shared_disk_lost,
        after_s=DISK_LOST_S,
    ),
    AlertSource(
        klass="EffectFailing",
        level="WARNING",
        title="The system is not as the configuration says",
        holds=effects_failing,
    ),
)
