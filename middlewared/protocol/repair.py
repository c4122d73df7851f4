"""What a standby does about a state that differs from the owner's: its own log first, then the owner's snapshot.

    stage             a comparison differs     a comparison is equal   what was asked for is done
    WELL              -> REFOLDING, Refold     -                       -
    REFOLDING         -                        -                       the log gives the owner's digest -> LOG_TRIED
                                                                       it does not -> FETCHING, FetchSnapshot
    LOG_TRIED         -> FETCHING,             -> WELL                 -
                         FetchSnapshot
    FETCHING          -                        -                       installed -> SNAPSHOT_TRIED
                                                                       refused -> FETCHING again, REFUSALS times at most
                                                                       not to be had -> WELL: the next difference asks
    SNAPSHOT_TRIED    -> STOPPED, StopApplying -> WELL                 -
    STOPPED           -                        -                       -

The log is tried first because it is at hand and proves itself: what it gives is what this controller must hold, unless
the fold is not deterministic. Then the owner's state is right by definition: it is what the world was told. A
controller whose state differs again after that would serve something else than was answered: it applies nothing more,
and is not to be promoted, until somebody has looked and started it again.

Only the standby repairs. Whether it is the owner that is wrong cannot be told by two; the first differing row is
reported, so that a person can.
"""

from __future__ import annotations

import enum

from middlewared.protocol.checkpoint import Disagreement, Verdict
from middlewared.protocol.replication_values import Action, FetchSnapshot, Refold, Refolded, StopApplying

REFUSALS = 3


class Stage(enum.Enum):
    WELL = "well"
    REFOLDING = "refolding"
    LOG_TRIED = "log tried"
    FETCHING = "fetching"
    SNAPSHOT_TRIED = "snapshot tried"
    STOPPED = "stopped"


class Repair:
    """Follows the table. Every method returns what must be done now."""

    def __init__(self) -> None:
        self.stage = Stage.WELL
        self._refusals = 0

    def judged(self, verdict: Verdict, differs: Disagreement | None) -> tuple[Action, ...]:
        """A comparison was made. differs: what it found, where it failed."""
        if verdict is Verdict.EQUAL and self.stage in (Stage.LOG_TRIED, Stage.SNAPSHOT_TRIED):
            self.reset()
        if verdict is not Verdict.DIFFERENT or differs is None:
            return ()
        if self.stage is Stage.WELL:
            self.stage = Stage.REFOLDING
            return (Refold(differs.seq, differs.there),)
        if self.stage is Stage.LOG_TRIED:
            return self._fetch()
        if self.stage is Stage.SNAPSHOT_TRIED:
            return self._stop(f"at seq {differs.seq} the state differs from the owner's again, after its snapshot")
        return ()

    def refolded(self, message: Refolded) -> tuple[Action, ...]:
        if self.stage is not Stage.REFOLDING:
            return ()
        if message.repaired:
            self.stage = Stage.LOG_TRIED
            return ()
        return self._fetch()

    def installed(self) -> tuple[Action, ...]:
        if self.stage is Stage.FETCHING:
            self.stage = Stage.SNAPSHOT_TRIED
        return ()

    def refused(self, why: str) -> tuple[Action, ...]:
        """The snapshot is not what it says, or does not belong to this log."""
        if self.stage is not Stage.FETCHING:
            return ()
        self._refusals += 1
        if self._refusals < REFUSALS:
            return self._fetch()
        return self._stop(f"the state differs from the owner's, and its snapshot is refused: {why}")

    def not_fetched(self) -> tuple[Action, ...]:
        if self.stage is Stage.FETCHING:
            self.stage = Stage.WELL
        return ()

    def reset(self) -> None:
        """All is well, or this controller owns now: its state is the one that counts."""
        if self.stage is not Stage.STOPPED:
            self.stage = Stage.WELL
            self._refusals = 0

    def _fetch(self) -> tuple[Action, ...]:
        self.stage = Stage.FETCHING
        return (FetchSnapshot(),)

    def _stop(self, why: str) -> tuple[Action, ...]:
        self.stage = Stage.STOPPED
        return (StopApplying(why),)
