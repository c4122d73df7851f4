"""Waiting until a record is durable at a level.

`single`: the commit index covers it, so it is durable on every controller that the record on the shared disks names.
`pair`: it is durable on both. A record that was answered `single` becomes one of `pair` when the other controller has
acknowledged it and the shared disks' record names both: from then on any one of them may be lost.

The owner knows; a standby knows what it was told, and may hold a record that it does not know to be committed yet.
"""

from __future__ import annotations

import asyncio
import errno

import msgspec

from middlewared.engine.outside import Log
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.tenure import TermBegan
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_owner import Owner

_BATCH = 2048


class Durable:
    """Waits on one replica; `moved` is said whenever its commit index or its level may have moved."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()

    def moved(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self, replica: Replica, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        """(term of record `seq`, level at which it is durable), once that is `level` or better.

        Raises CallFailed: ENOENT on the owner for a record that is not there, EOPNOTSUPP for `pair` where there is no
        other controller, EIO where this one has halted, ETIMEDOUT after timeout_s with where things stand.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not _reached(replica, seq, level):
                    await self._moved.wait()
        except TimeoutError:
            raise CallFailed(errno.ETIMEDOUT, _why_not(replica, seq, level), _where(replica)) from None
        log = replica.log
        term = next(end.term for end in log.history if end.seq >= seq)
        return term, "pair" if seq <= log.pair_seq else "single"


def _reached(replica: Replica, seq: int, level: str) -> bool:
    log, side = replica.log, replica.side
    if seq <= (log.pair_seq if level == "pair" else log.committed.seq):
        return True
    if replica.halted is not None:
        raise CallFailed(errno.EIO, f"This controller has halted: {replica.halted}", _where(replica))
    if isinstance(side, Owner):
        if seq > log.tip.seq:
            raise CallFailed(errno.ENOENT, f"There is no record {seq}: the log ends at {log.tip.seq}", _where(replica))
        if level == "pair" and side.alone:
            reason = "This controller was never paired: there is no other one on which anything could be durable"
            raise CallFailed(errno.EOPNOTSUPP, reason, _where(replica))
    return False


def _why_not(replica: Replica, seq: int, level: str) -> str:
    log, side = replica.log, replica.side
    if not isinstance(side, Owner):
        return (
            f"Record {seq} is not known to be durable at level {level}: this controller is not active; it holds "
            f"{log.head.seq} records and was told of {log.committed.seq} committed, {log.pair_seq} of them on both"
        )
    if level == "single":
        return f"Record {seq} is not committed: {log.committed.seq} are"
    if side.acked is None:
        return f"Record {seq} is not durable on both: controller {side.peer} does not follow at the moment"
    if side.peer not in side.synced:
        return (
            f"Record {seq} is not durable on both: controller {side.peer} has {side.acked.seq} and is not in sync yet"
        )
    return f"Record {seq} is not durable on both: controller {side.peer} has acknowledged {side.acked.seq}"


def _where(replica: Replica) -> dict[str, object]:
    log = replica.log
    return {"last_seq": log.head.seq, "commit_seq": log.committed.seq, "pair_seq": log.pair_seq}


def said_on_both(log: Log, upto: int) -> int:
    """The last record up to `upto` of which the log itself says that it is durable on both controllers; 0: it does not.

    Every term says at its beginning what its owner knew. What became durable on both since is not known without a
    state.db, until the owner tells it.
    """
    at = said = 0
    while batch := log.of_kinds((TermBegan.kind,), at, upto, _BATCH):
        said = max(said, *(msgspec.json.decode(record.payload, type=TermBegan).pair_seq for record in batch))
        at = batch[-1].seq
    return said
