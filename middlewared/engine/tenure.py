"""From what fenced says to what the log may do: a term begins, goes on, or is over.

This process never writes in a term that an earlier process of this controller may have written in: when fenced says on
the first contact that this controller owns, a new term is asked for, and only a higher one counts. fenced that is
silent or still looking around changes nothing for a moment; it alone can end a term, and it does so by saying so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from middlewared.engine.replicate import Replicator
from middlewared.ports import Clock
from middlewared.protocol import hub
from middlewared.protocol import replication_values as values

log = logging.getLogger(__name__)

WAITING_S = 1.0
SURE_S = 1.0
"""fenced says twice in that time where this controller stands."""


class Tenure:
    """Follows fenced's Standing.

    single_term: the term in which this controller stands alone; None for one of a pair, which never does, whatever
    fenced may still say from before the pairing. begin: asks fenced for a new term. urls: where the active one answers.
    """

    def __init__(
        self, single_term: int | None, begin: Callable[[], None], urls: Callable[[], tuple[str, ...]], clock: Clock
    ) -> None:
        self.active_urls = urls
        self._single_term = single_term
        self._begin = begin
        self._clock = clock
        self._floor: int | None = None
        self._replicator: Replicator
        self._patience: asyncio.TimerHandle | None = None
        self._forced_above: int | None = None
        self._forced_term = 0
        self.standing: hub.Standing | None = None
        self.closing: str | None = None
        """Why this owner takes no new writes: it hands over."""
        self.changed = asyncio.Event()

    def attach(self, replicator: Replicator) -> None:
        self._replicator = replicator

    @property
    def role(self) -> hub.Role:
        return self.standing.role if self.standing is not None else "WAITING"

    def is_standby(self) -> bool:
        return self.role == "STANDBY"

    def is_sure(self) -> bool:
        """fenced said lately that this controller owns.

        A controller that was frozen finds calls in its sockets before it hears that its term is over. Not covered: what
        fenced itself has yet to notice, for at most the lease of a term.
        """
        standing = self.standing
        if standing is None or standing.role not in ("OWNER", "SINGLE"):
            return False
        return standing.role == "SINGLE" or self._clock.boottime() - standing.said_at <= SURE_S

    def is_fenced(self) -> bool:
        """Whether fenced says that nobody but this controller can write the shared disks."""
        return self.role == "OWNER" and self.standing is not None and self.standing.fenced

    def why(self) -> str:
        """The sentence of the rule that gave the role."""
        return self.standing.why if self.standing is not None else "fenced has not been heard yet"

    def force_next(self) -> None:
        """An operator accepts this controller's log as it is, in the next term that it gains.

        An owner asks for that term here: what forces a claim is for a controller that does not own.
        """
        self._forced_above = self.standing.term if self.standing is not None else 0
        if self.role == "OWNER":
            self._begin()

    def heard(self, standing: hub.Standing) -> None:
        """fenced says where this controller stands."""
        before = self.standing
        self.standing = standing
        if before is None or (before.role, before.term) != (standing.role, standing.term):
            log.info("event=standing role=%s term=%d why=%r", standing.role, standing.term, standing.why)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if standing.role == "OWNER":
            self._owns(standing)
        elif standing.role == "SINGLE":
            if standing.term == self._single_term:
                self._own(values.Owning(term=standing.term, record=None, hash_here=None, alone=True))
        elif standing.role == "STANDBY":
            self._floor = self._floor or 0
            self._replicator.feed(values.Standing(standing.term))
        else:
            self._wait(standing.term)
        self.changed.set()

    def lost(self) -> None:
        """fenced's socket is closed."""
        self._wait(self._replicator.replica.term)

    def _owns(self, standing: hub.Standing) -> None:
        if self._floor is None:
            self._floor = standing.term
            self._begin()
        elif self._replicator.replica.term > standing.term:
            # The peer tried for a higher term and told of it. Whether it got it or not: nothing more is opened in ours.
            self._begin()
        elif standing.term > max(self._floor, self._replicator.replica.log.head.term):
            # fenced may say the present term once more before it says the one that was asked for.
            if self._forced_above is not None and standing.term > self._forced_above:
                self._forced_above, self._forced_term = None, standing.term
            forced = standing.term == self._forced_term
            self._own(values.Owning(term=standing.term, record=standing.record, hash_here=None, forced=forced))

    def _own(self, tenure: values.Owning) -> None:
        self._replicator.spawn(self._look_up_and_own(tenure))

    async def _look_up_and_own(self, tenure: values.Owning) -> None:
        """The hash that the record names is looked up in this log; the term may be over by then."""
        if tenure.record is not None:
            here = await self._replicator.hash_at(tenure.record.committed_seq)
            tenure = msgspec.structs.replace(tenure, hash_here=here)
        if self.role in ("OWNER", "SINGLE") and self.standing is not None and self.standing.term == tenure.term:
            self._replicator.feed(tenure)

    def _wait(self, term: int) -> None:
        """No role is said. After WAITING_S without one, nothing more is promised."""
        self._floor = self._floor or 0
        if self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(
                WAITING_S, lambda: self._replicator.feed(values.Standing(term))
            )
