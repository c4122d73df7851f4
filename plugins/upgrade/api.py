"""The methods of `upgrade`, and the question of `failover` that clients of the field ask about it."""

from __future__ import annotations

import errno

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import FIRST_FORMAT, LOG_FORMAT
from middlewared.log_format import Raise
from middlewared.plugin import Call, command, query

from . import readiness


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """log_format: in which the log goes on. formats: the oldest and the newest that this controller reads.

    peer_*: of the other controller, null while it is not connected; peer_version is "" where it is too old to say.
    peer_age: older, same, newer or other (same age, other plugins). why_not: what keeps the log from being raised.
    """

    log_format: int
    formats: tuple[int, int]
    version: str
    peer_version: str | None
    peer_age: str | None
    peer_formats_up_to: int | None
    can_finalize: bool
    why_not: tuple[str, ...]


@query("upgrade.status", roles=("FAILOVER_READ",))
async def status(call: Call) -> Status:
    """What each controller runs, in which format the log goes on, and whether it can be raised."""
    return _status(call)


def _status(call: Call) -> Status:
    facts = call.controller.facts()
    peer = facts.peer
    return Status(
        log_format=facts.log_format,
        formats=(FIRST_FORMAT, LOG_FORMAT),
        version=facts.version,
        peer_version=peer.version if peer is not None else None,
        peer_age=peer.age if peer is not None else None,
        peer_formats_up_to=peer.log_format_max if peer is not None else None,
        can_finalize=readiness.pending(facts),
        why_not=tuple(readiness.reasons(facts)),
    )


@command("upgrade.finalize", roles=("FAILOVER_WRITE",))
async def finalize(call: Call) -> Status:
    """Go on in the newest log format. After it neither controller can go back to the version before.

    Refused, with every reason, unless the other controller is connected, in sync and can read that format. A
    controller that was never paired just does it. Nothing changes where the log is that far already.
    """
    why_not = readiness.reasons(call.controller.facts())
    if why_not:
        raise CallFailed(errno.EAGAIN, f"The log cannot be raised now: {'; '.join(why_not)}", {"why_not": why_not})
    await call.execute(Raise(log_format=LOG_FORMAT))
    return _status(call)


@query("failover.upgrade_pending", roles=("FAILOVER_READ",))
async def upgrade_pending(call: Call) -> bool:
    """Whether both controllers run this version and `upgrade.finalize` is still to be called."""
    return readiness.pending(call.controller.facts())


METHODS = (status, finalize, upgrade_pending)
