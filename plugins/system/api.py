"""The methods of `system`."""

from __future__ import annotations

import msgspec

from middlewared.kernel.facts import Node
from middlewared.plugin import Call, query


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """This controller. datetime: {"$date": ms since 1970, UTC}."""

    version: str
    hostname: str
    node: Node
    boot_id: str
    uptime_seconds: float
    datetime: dict[str, int]
    status: str


class EffectState(msgspec.Struct, frozen=True, kw_only=True):
    """problem null: the system is as the configuration says."""

    effect: str
    problem: str | None


@query("system.info", roles=("SYSTEM_GENERAL_READ",))
async def info(call: Call) -> Info:
    """What answers: version, controller, up since when."""
    facts = call.controller.facts()
    names = await call.query("network.configuration.config")
    return Info(
        version=facts.version,
        hostname=getattr(names, "hostname_local", ""),
        node=call.node,
        boot_id=facts.boot_id,
        uptime_seconds=facts.uptime_s,
        datetime={"$date": facts.wall_ns // 1_000_000},
        status=facts.status,
    )


@query("system.version", public=True)
async def version(call: Call) -> str:
    """The version of the software on this controller."""
    return f"middlewared-{call.controller.facts().version}"


@query("system.ready", public=True)
async def ready(call: Call) -> bool:
    """Whether this controller has a role and serves it."""
    return call.controller.facts().status in ("SINGLE", "MASTER", "BACKUP")


@query("system.effects", roles=("SYSTEM_GENERAL_READ",))
async def effects(call: Call) -> list[EffectState]:
    """Every effect of the configuration on this controller, and what keeps it from being so."""
    found = call.controller.facts().effects
    return [EffectState(effect=name, problem=found[name]) for name in sorted(found)]


METHODS = (info, version, ready, effects)
