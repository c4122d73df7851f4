"""Whether the standby could take over now, why not, and what may be done meanwhile.

Pure: from what both controllers know of themselves (`Side`) and what the configuration wants. `reasons` goes down one
list, in the order in which an operator would mend them; codes are those of the field's clients where they have one.

What has another meaning than in the field, or none there
NO_VOLUME    A configured pool is not imported on the active controller. A pair without any pool is available: what
             fails over is its configuration and its address.
NO_PONG      No heartbeat of the other controller, and nothing else: what else is wrong has a code of its own.
NO_CRITICAL_INTERFACES   Comes with NO_VIP and never alone: a critical interface has a VIP, and where nobody said of any
             interface that it is critical, each one with a VIP is (failover_groups.py).
NOT_PAIRED, NO_VOTERS, NO_LINK, POOL_FAULT, PROMOTION_FAILED, ENDED_OFTEN, FLAPPING, CONFIG_BEHIND, LOG_HALTED and
PEER_REFUSES   are this product's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from middlewared.kernel.facts import other
from middlewared.kernel.outlook import Availability, Configured, Icon, Line, Permits, Reason, Side

ACTIVE = ("MASTER", "SINGLE")


def availability(me: Side, peer: Side | None, line: Line, configured: Configured) -> Availability:
    """As the controller of `me` sees it. peer: as it was told last, None: it tells nothing."""
    found = tuple(reasons(me, peer, line, configured))
    icon: Icon = "ENABLED"
    if not line.paired:
        icon = "ABSENT"
    elif configured.disabled:
        icon = "DISABLED"
    elif found:
        icon = "UNAVAILABLE"
    return Availability(
        icon=icon, available=icon == "ENABLED", reasons=found, permits=_permits(icon, me, peer, line, configured)
    )


def reasons(me: Side, peer: Side | None, line: Line, configured: Configured) -> Iterator[Reason]:
    """Every reason that holds, in the order in which to mend them."""
    if not line.paired:
        yield Reason(code="NOT_PAIRED", text="This controller was never paired")
        return
    sides = [me] if peer is None else [me, peer]
    yield from _of_the_configuration(configured)
    for side in sides:
        yield from _of_one(side)
    yield from _of_the_way(me, peer, line)
    for side, code in zip(sides, ("LOC_FAILOVER_ONGOING", "REM_FAILOVER_ONGOING"), strict=False):
        if side.changing is not None:
            yield Reason(code=code, text=f"Controller {side.node} {side.changing}", node=side.node)
    if peer is not None:
        yield from disagreements(me, peer)
    yield from _of_what_is_active(sides, configured)
    if line.heard and line.up and not line.both_in_sync:
        yield Reason(code="NO_JOURNAL_SYNC", text="The standby's log does not hold all that was answered")


def _of_the_configuration(configured: Configured) -> Iterator[Reason]:
    if configured.disabled:
        yield Reason(code="NO_FAILOVER", text="Failover is disabled")
    if not configured.vips:
        yield Reason(code="NO_VIP", text="There is no virtual address")
        yield Reason(code="NO_CRITICAL_INTERFACES", text="No interface is critical, and none has a virtual address")


def _of_one(side: Side) -> Iterator[Reason]:
    """What is wrong with one controller."""
    node = side.node
    sentences = (
        ("LOG_HALTED", side.halted),
        ("CONFIG_BEHIND", side.behind),
        ("POOL_FAULT", side.fault),
        ("NO_LINK", side.lost_links),
        ("PROMOTION_FAILED", side.failed),
        ("ENDED_OFTEN", "it ended itself three times in ten minutes" if side.held else None),
        ("FLAPPING", "the active role moved three times in ten minutes" if side.flapping else None),
    )
    for code, why in sentences:
        if why is not None:
            yield Reason(code=code, text=f"Controller {node}: {why}", node=node)
    if side.voters == 0:
        yield Reason(code="NO_VOTERS", text=f"Controller {node} knows no shared disks that could vote", node=node)
    elif side.voters_ok * 2 <= side.voters:
        yield Reason(
            code="NO_FENCED",
            text=f"Controller {node} reaches only {side.voters_ok} of {side.voters} shared disks",
            node=node,
            detail={"reached": side.voters_ok, "of": side.voters},
        )


def _of_the_way(me: Side, peer: Side | None, line: Line) -> Iterator[Reason]:
    """What is wrong between the two."""
    there = other(me.node)
    if me.carrier is False:
        yield Reason(code="NO_CARRIER_ON_HEARTBEAT", text="The interlink has no carrier")
    theirs = (peer.blocked if peer is not None else None) or line.blocked
    blocked = [(node, why) for node, why in ((me.node, me.blocked), (there, theirs)) if why is not None]
    if line.apart is not None:
        yield Reason(code="MISMATCH_VERSIONS", text=f"The two cannot read each other's log: {line.apart}")
    elif blocked:
        node, why = blocked[0]
        yield Reason(code="MISMATCH_VERSIONS", text=f"Controller {node} applies nothing more: {why}", node=node)
    if not line.heard:
        yield Reason(code="NO_PONG", text=f"Controller {there} is not heard on the interlink", node=there)
    if line.refused is not None:
        yield Reason(code="PEER_REFUSES", text=f"Controller {there} refuses the line: {line.refused}", node=there)
    elif line.heard and not line.up:
        yield Reason(code="NO_SYSTEM_READY", text=f"Controller {there} is up and not ready yet", node=there)


def disagreements(me: Side, peer: Side) -> Iterator[Reason]:
    """What does not fit together, of the reasons: addresses that both hold or neither does, and disks."""
    if me.changing is None and peer.changing is None:
        yield from _of_the_vips(me, peer)
    if me.disks is not None and peer.disks is not None and set(me.disks) != set(peer.disks):
        only = {
            side.node: sorted(set(side.disks or ()) - set(rest.disks or ())) for side, rest in ((me, peer), (peer, me))
        }
        said = "; ".join(f"only {node} sees {', '.join(serials)}" for node, serials in sorted(only.items()) if serials)
        yield Reason(code="MISMATCH_DISKS", text=f"The controllers see different disks: {said}", detail={"only": only})


def _of_the_vips(me: Side, peer: Side) -> Iterator[Reason]:
    """Both grant an address, or neither does; only where both say what they do with it."""
    for address in sorted(me.vips.keys() & peer.vips.keys()):
        state = me.vips[address]
        if state == peer.vips[address] and state in ("MASTER", "BACKUP"):
            text = f"{address} is {state} on both controllers"
            yield Reason(
                code="DISAGREE_VIP", text=text, detail={"address": address, "state": state, "alias": "DISAGREE_CARP"}
            )


def _of_what_is_active(sides: list[Side], configured: Configured) -> Iterator[Reason]:
    for side in sides:
        missing = [guid for guid in configured.pools if guid not in side.pools]
        if side.status in ACTIVE and missing and side.changing is None:
            text = f"Controller {side.node} is active without {len(missing)} of {len(configured.pools)} pools"
            yield Reason(code="NO_VOLUME", text=text, node=side.node, detail={"pools": missing})


def _permits(icon: Icon, me: Side, peer: Side | None, line: Line, configured: Configured) -> Permits:
    active = me.status in ACTIVE
    there_active = peer is not None and line.heard and peer.status in ACTIVE
    alone = icon == "ABSENT"
    return Permits(
        failover=icon == "ENABLED",
        force_takeover=not alone and not active and not there_active,
        edit_interfaces=alone or configured.disabled,
        export_last_pool=alone or configured.disabled,
        key_reset=alone or configured.disabled or line.heard,
        login=active or not there_active,
        write_config=active and me.behind is None and me.halted is None,
        sync_peer=active and line.up and me.changing is None and (peer is None or peer.changing is None),
    )
