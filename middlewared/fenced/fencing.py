"""Whether the other controller can still write a shared disk, and what is done where it can.

A pool may be imported by force only where the other controller can write none of it. That is so when each shared disk
that this controller reaches is held by it in its term, since a disk takes writes from its holder alone; or when the
other's power was confirmed to be off in this ownership: what boots after that has no pool and no term.

    gained     a term was won. A takeover: from a controller that was not heard to stand by a moment ago
    CLAIM_S    after that the claims of all disks were answered; where fewer than ENOUGH of the disks are held, or one
               that is reached is not, a takeover asks for the power, once in an ownership

Not handled: a disk that only the other controller reaches. It may write that one until its power is off; of its pools
no other disk takes a write, so that they stop.

No I/O and no clock. Source: STONITH in doubt, as in Pacemaker; the share is that of py-fenced (more than a tenth of the
disks that refuse ends a takeover).
"""

from __future__ import annotations

from middlewared.fenced.disks import Held
from middlewared.protocol import hub

CLAIM_S = 0.5
ENOUGH = 0.9


class Fencing:
    """One controller's fencing of the other. has_power: there is a way to switch its power."""

    def __init__(self, *, has_power: bool) -> None:
        self._has_power = has_power
        self._gained_at = 0.0
        self._open = False  # whether the power may still be needed
        self._power: hub.PowerOff | None = None

    def gained(self, now: float, *, takeover: bool) -> None:
        """A term was won by a controller that did not own. One that owned already goes on with what it had."""
        self._gained_at, self._open, self._power = now, takeover and self._has_power, None

    def ask_power(self, held: Held, now: float) -> bool:
        """Whether to cut the other's power now. True once; tell the outcome by `power_was`."""
        waited_s = now - self._gained_at
        if not self._open or waited_s < CLAIM_S or (held.unknown and waited_s < 2 * CLAIM_S):
            return False
        self._open = False
        return not _all_held(held) or held.held < ENOUGH * held.disks

    def power_was(self, why: str | None) -> None:
        """why: None when it is off, otherwise what came instead."""
        self._power = hub.PowerOff(confirmed=why is None, why=why or "")

    def result(self, held: Held) -> hub.Fencing:
        off = self._power is not None and self._power.confirmed
        return hub.Fencing(
            fenced=off or _all_held(held),
            disks=held.disks,
            reachable=held.reachable,
            held=held.held,
            power=self._power,
        )


def _all_held(held: Held) -> bool:
    return held.disks > 0 and not held.unknown and held.held == held.reachable
