"""What the replication machine asks about the committed state: its digest, its repair, and an end of applying."""

from __future__ import annotations

import logging

from middlewared.engine.apply import CommittedState
from middlewared.engine.repair import Repairer
from middlewared.engine.replicate import Replicator
from middlewared.protocol import replication_values as values

log = logging.getLogger(__name__)


class Care:
    """Performs it. repairer: None where nothing can be repaired; a difference is told all the same."""

    def __init__(self, state: CommittedState, replicator: Replicator) -> None:
        self._state = state
        self._replicator = replicator
        self.repairer: Repairer | None = None
        state.on_digest = lambda seq, digest: replicator.feed(values.Digested(seq, digest))

    def perform(self, action: values.OfState) -> None:
        match action:
            case values.DigestAt():
                self._state.mark(action.seq)
            case values.Differs():
                what = action.what
                log.error("event=state_differs seq=%d here=%s there=%s", what.seq, what.here, what.there)
                text = f"at seq {what.seq} the digest is {what.here}, the owner's is {what.there}"
                self._state.differs = (what.seq, text)
            case values.Refold() if self.repairer is not None:
                self._replicator.spawn(self.repairer.refold(action.seq, action.wanted))
            case values.FetchSnapshot() if self.repairer is not None:
                self._replicator.spawn(self.repairer.fetch())
            case values.StopApplying():
                log.critical("event=stopped_applying why=%r", action.why)
                self._state.blocked = action.why
                self._replicator.feed(values.Applied(self._state.applied.seq, action.why))
