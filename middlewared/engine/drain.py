"""The writes of an owner that hands over: none is taken any more, and what was taken is level with the other one."""

from __future__ import annotations

from middlewared.engine.engine import Engine
from middlewared.engine.replicate import Replicator
from middlewared.engine.tenure import Tenure
from middlewared.protocol.replication_owner import Owner


class Drain:
    """engine.handover.Writes."""

    def __init__(self, engine: Engine, tenure: Tenure, replicator: Replicator) -> None:
        self._engine = engine
        self._tenure = tenure
        self._replicator = replicator

    @property
    def closing(self) -> str | None:
        return self._tenure.closing

    @closing.setter
    def closing(self, why: str | None) -> None:
        self._tenure.closing = why

    def level_with_peer(self) -> int | None:
        log, side = self._replicator.replica.log, self._replicator.replica.side
        if not isinstance(side, Owner) or self._engine.writes_wait() or log.tip.seq != log.committed.seq:
            return None
        return log.committed.seq if side.peer_applied_seq >= log.committed.seq else None

    async def state_digest(self) -> tuple[int, str]:
        return await self._engine.state_digest()
