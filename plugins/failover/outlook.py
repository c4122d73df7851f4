"""Whether failover is available, why it is not, by which rule a controller is what it is, and what a fault would do."""

from __future__ import annotations

import msgspec

from middlewared.kernel.facts import Vip
from middlewared.kernel.outlook import Availability, Configured, Explanation, Forecast, Reason, Shown, Side
from middlewared.plugin import Call, PeerCall, peer, query

from . import settings


@peer("failover.side")
async def side(call: PeerCall) -> Side:
    """What this controller knows of itself that failover depends on."""
    return call.controller.outlook.side()


@peer("failover.view")
async def view(call: PeerCall) -> Shown:
    """What this controller's fenced decided upon last."""
    return call.controller.outlook.shown()


async def availability_of(call: Call) -> Availability:
    """As the controller that answers sees it; from memory."""
    vip = msgspec.convert(await call.query("network.vip.config"), Vip | None)
    configured = Configured(disabled=call.state(settings.NOUN).disabled, vips=(vip.address,) if vip is not None else ())
    return call.controller.outlook.availability(configured)


@query("failover.disabled.reasons", public=True)
async def reasons(call: Call) -> list[str]:
    """Why failover is not available, as codes; empty when it is."""
    return list(dict.fromkeys(reason.code for reason in (await availability_of(call)).reasons))


@query("failover.disabled.details", roles=("FAILOVER_READ",))
async def details(call: Call) -> list[Reason]:
    """The same with a sentence, the controller, since when, and what exactly."""
    return list((await availability_of(call)).reasons)


@query("failover.availability", roles=("FAILOVER_READ",))
async def availability(call: Call) -> Availability:
    """The icon (ENABLED, DISABLED, UNAVAILABLE, ABSENT), the reasons, and what may be done now on this controller."""
    return await availability_of(call)


@query("failover.explain", roles=("FAILOVER_READ",))
async def explain(call: Call) -> Explanation:
    """Why this controller is what it is: the rule that holds now, and each fact that it rests on with its age."""
    return call.controller.outlook.explain()


@query("failover.dry_run", roles=("FAILOVER_READ",))
async def dry_run(call: Call, fault: str) -> Forecast:
    """What would follow a fault, by the rules that decide: who takes over, after how long, and why.

    fault: interlink, interlink_silent, lan, lan_peer, switch, partition, shelf, shelf_peer, i_die, peer_dies, i_freeze,
    peer_freezes, pool_suspends; "i" and "peer" as the controller that answers sees them. The times are those of
    detection; imports and services come on top.
    """
    return await call.controller.outlook.dry_run(fault)


METHODS = (reasons, details, availability, explain, dry_run)
PEER_METHODS = (side, view)
