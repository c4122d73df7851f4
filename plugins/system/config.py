"""`system.config.save`: the whole configuration in one file."""

from __future__ import annotations

from middlewared.kernel.upkeep import Saved
from middlewared.plugin import JobCall, job


@job("system.config.save", roles=("FULL_ADMIN",), gives_file=True)
async def save(call: JobCall) -> Saved:
    """Save the configuration of this controller to an archive in `backup/` of its data directory; the newest ten stay.

    It holds the whole log and the state, beside a manifest; neither keys nor the audit's notes. It goes on beside
    writes, and holds none of them up.
    """
    return await call.controller.upkeep.save_config(call.progress)
