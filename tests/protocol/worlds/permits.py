"""The other half of S4: icon, reasons and permits follow from the world, as rows T3-T31 of reference/ha.md have it.

Each side of a world tells the other what it knows of itself, as far as the interlink carries it; `availability` makes
reasons, icon and permits of it. Here they are compared with what the world itself says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from middlewared.kernel.outlook import Availability, Configured, Line, Side, Status
from middlewared.protocol.availability import availability
from tests.protocol.worlds.world import DISKS, NONE, SIDES, Odd, Ownership, World, all_of

VIP = "192.0.2.10"


def status_of(world: World, side: int) -> Status:
    return "MASTER" if world.ownership.believes[side] else "BACKUP"


def side_of(world: World, side: int) -> Side:
    """What a side knows of itself."""
    odd, status = world.odd, status_of(world, side)
    return Side(
        node=SIDES[side],
        version="1",
        status=status,
        voters=DISKS,
        voters_ok=DISKS if world.cable[side] else 0,
        carrier=world.interlink.carrier,
        lost_links=None if world.lan.links[side] else "a network is lost",
        vips={VIP: status},
        fault="a pool lacks its disks" if odd.fault[side] else None,
        failed="a pool cannot be imported" if odd.failed[side] else None,
        held=odd.held[side],
        flapping=odd.flapping,
    )


def outlook(world: World, side: int) -> Availability:
    """As that side sees it. The line needs both directions of the interlink; a heartbeat only its own."""
    peer = 1 - side
    heard = world.runs(peer) and world.interlink.passes[peer]
    up = heard and world.interlink.passes[side]
    line = Line(paired=True, heard=heard, up=up, both_in_sync=up)
    configured = Configured(disabled=world.odd.disabled, vips=(VIP,))
    return availability(side_of(world, side), side_of(world, peer) if up else None, line, configured)


def faults(world: World) -> tuple[str, ...]:
    """The rows that are violated on either side; as far as they depend on it, a world is looked at once."""
    own, odd = world.ownership, world.odd
    return _faults(
        world._replace(
            ownership=Ownership(own.believes, all_of(None, 0), (0, 0)),
            lan=world.lan._replace(passes=NONE),
            odd=Odd(disabled=odd.disabled, failed=odd.failed, held=odd.held, fault=odd.fault, flapping=odd.flapping),
            since_s=0.0,
        )
    )


@cache
def _faults(world: World) -> tuple[str, ...]:
    return tuple(row for side in (0, 1) if world.runs(side) for row in _faults_of(world, side))


def _faults_of(world: World, side: int) -> Iterator[str]:
    found, peer = outlook(world, side), 1 - side
    permits, odd = found.permits, world.odd
    owns, peer_owns = bool(world.ownership.believes[side]), bool(world.ownership.believes[peer])
    up = world.runs(peer) and all(world.interlink.passes)
    whole = (
        up
        and world.interlink.carrier
        and owns != peer_owns
        and all(world.cable)
        and all(world.lan.links)
        and not (any(odd.fault) or any(odd.failed) or any(odd.held) or odd.flapping)
    )
    if found.icon != ("DISABLED" if odd.disabled else "ENABLED" if whole else "UNAVAILABLE"):
        yield "T13 T14 T15"
    if permits.failover != (whole and not odd.disabled):
        yield "T21 T31"
    if up and not odd.disabled and owns == peer_owns and "DISAGREE_VIP" not in {r.code for r in found.reasons}:
        yield "T21"
    if permits.edit_interfaces != odd.disabled or permits.export_last_pool != odd.disabled:
        yield "T25 T27"
    if permits.force_takeover != (not owns and not (up and peer_owns)):
        yield "T20"
    if permits.login != (owns or not (up and peer_owns)):
        yield "T12"
    if permits.write_config != owns:
        yield "T3"
    if permits.key_reset != (odd.disabled or (world.runs(peer) and world.interlink.passes[peer])):
        yield "T28"
    if permits.sync_peer != (owns and up):
        yield "T19"
