"""How edits of interfaces come into force: commit, checkin, rollback; and the duty that keeps the deadline."""

from __future__ import annotations

from typing import Any

import msgspec

from middlewared.plugin import Call, ControllerFacts, DutyCall, command, query

from . import interface
from .interface_api import gate


class CommitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """rollback: without a checkin within checkin_timeout seconds everything is as it was; False: keep at once."""

    rollback: bool = True
    checkin_timeout: int = 60


@query("interface.has_pending_changes", roles=("NETWORK_INTERFACE_READ",))
async def has_pending_changes(call: Call) -> bool:
    """Whether there are edits that were not committed, or not checked in."""
    return call.state(interface.NOUN).is_changing


@command("interface.commit", takes="options", roles=("NETWORK_INTERFACE_WRITE",))
async def commit(call: Call, options: CommitOptions = CommitOptions()) -> None:  # noqa: B008
    """Put the edits into force, on both controllers; refused while failover is enabled."""
    await gate(call)
    facts = call.controller.facts()
    uptime_ms = round(facts.uptime_s * 1000)
    await call.execute(
        interface.Commit(
            id=f"{facts.boot_id}.{uptime_ms}",
            timeout_s=options.checkin_timeout if options.rollback else None,
            boot_id=facts.boot_id,
            uptime_ms=uptime_ms,
            wall_ns=facts.wall_ns,
        )
    )


@command("interface.checkin", roles=("NETWORK_INTERFACE_WRITE",))
async def checkin(call: Call) -> None:
    """Keep what was committed: it is not rolled back any more."""
    await call.execute(interface.CheckIn())


@query("interface.checkin_waiting", roles=("NETWORK_INTERFACE_READ",))
async def checkin_waiting(call: Call) -> float | None:
    """How many seconds are left for interface.checkin; null when nothing waits for it."""
    left_s = _left_s(call.state(interface.NOUN), call.controller.facts())
    return round(left_s, 3) if left_s is not None else None


@command("interface.cancel_rollback", roles=("NETWORK_INTERFACE_WRITE",))
async def cancel_rollback(call: Call) -> None:
    """Let what was committed stay until interface.checkin or interface.rollback, however long that takes."""
    await call.execute(interface.CancelRollback())


@command("interface.rollback", roles=("NETWORK_INTERFACE_WRITE",))
async def rollback(call: Call) -> None:
    """Undo every edit that was not checked in, committed or not."""
    await call.execute(interface.RollBack())


@query("interface.network_config_to_be_removed", roles=("NETWORK_INTERFACE_READ",))
async def network_config_to_be_removed(call: Call) -> list[str]:
    """What a commit takes away that nobody edited: nothing, for what was not configured here is left alone."""
    return []


@query("interface.services_restarted_on_sync", roles=("NETWORK_INTERFACE_READ",))
async def services_restarted_on_sync(call: Call) -> list[dict[str, Any]]:
    """Services that a commit restarts: none, for none is bound to a single address."""
    return []


METHODS = (
    has_pending_changes,
    commit,
    checkin,
    checkin_waiting,
    cancel_rollback,
    rollback,
    network_config_to_be_removed,
    services_restarted_on_sync,
)


async def roll_back_in_time(call: DutyCall) -> None:
    """Whoever is active ends a trial whose time is over, whichever of the two began it."""
    state = call.state(interface.NOUN)
    left_s = _left_s(state, call.controller.facts())
    if state.trial is not None and left_s is not None and left_s <= 0:
        request_id = f"interface.rollback.{state.trial.id}"
        await call.execute(interface.RollBack(trial=state.trial.id), request_id=request_id)


def _left_s(state: interface.Interfaces, facts: ControllerFacts) -> float | None:
    if state.trial is None:
        return None
    return interface.left_s(state.trial, boot_id=facts.boot_id, uptime_s=facts.uptime_s, wall_ns=facts.wall_ns)
