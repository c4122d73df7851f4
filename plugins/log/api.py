"""The methods of `log`."""

from __future__ import annotations

from middlewared.kernel.facts import Node
from middlewared.kernel.upkeep import LogCheck
from middlewared.plugin import JobCall, job

from .effects import Unchecked, verify_both


@job("log.verify", roles=("SYSTEM_AUDIT_READ",))
async def verify(call: JobCall, node: Node | None = None) -> dict[Node, LogCheck | Unchecked]:
    """Walk the whole log of both controllers, or of `node`: every record against its hash and its neighbours.

    Under each controller's name: {intact, records, term, hash, fault}. `fault` is {file, seq, what} where the log is
    not intact; seq 0 speaks of the file as a whole. Where a controller cannot be asked `intact` is null, with `why`.
    It reads only, in a process of its own; writes go on meanwhile.
    """
    return await verify_both(call, node)


@job("log.verify_here", roles=("SYSTEM_AUDIT_READ",))
async def verify_here(call: JobCall) -> LogCheck:
    """Walk the log of the controller that answers."""
    return await call.controller.upkeep.verify_log(call.progress)


METHODS = (verify, verify_here)
