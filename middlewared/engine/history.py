"""The state of a noun as it was after a past record.

Theory
------
States are immutable, so one that was once folded costs nothing to keep but its memory. Three sources, the first that
reaches back far enough answers:

    recent        each noun's last RECENT states, noted as they are folded
    checkpoints   states that an earlier walk passed, every STRIDE of the noun's records, at most CHECKPOINTS a noun
    a walk        from the newest checkpoint before, through the noun's own records in the log, in a thread of its own

A walk has a deadline, and leaves a checkpoint where it ended: who asks again goes on from there. A cut below what is
applied forgets everything. Only committed records are ever looked at.
"""

from __future__ import annotations

import asyncio
import errno
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from middlewared.engine.outside import Log, Threads, one_thread
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import UnknownKind
from middlewared.plugin import Noun

S = TypeVar("S", bound=msgspec.Struct)

RECENT = 128
STRIDE = 16_384
CHECKPOINTS = 64
BATCH = 2048
WALK_S = 10.0


class _Walk:
    """One search. begun: of which states; stopped: nobody waits for it any more."""

    def __init__(self, upto: int, begun: int) -> None:
        self.upto = upto
        self.begun = begun
        self.stopped = False


class History:
    """Answers `state_at`. log: where the walk reads."""

    def __init__(self, registry: Registry, log: Log, threads: Threads = one_thread) -> None:
        self._registry = registry
        self._log = log
        self._thread = threads("log.db history")
        self._recent: dict[str, deque[tuple[int, Any]]] = {}
        self._checkpoints: dict[str, list[tuple[int, Any]]] = {}
        self._walks: set[_Walk] = set()
        self._begun = 0
        self.seq = 0
        """The last record that is folded into the states."""

    def begin(self, seq: int, states: Mapping[str, Any]) -> None:
        """The states as of record `seq`; what was known before may not be true of this log."""
        self._begun += 1
        self.seq = seq
        self._recent = {name: deque([(seq, state)], RECENT) for name, state in states.items()}
        self._checkpoints = {name: [(0, noun.initial)] for name, noun in self._registry.nouns.items()}

    def note(self, seq: int, name: str, state: object) -> None:
        """Record `seq` made this the state of noun `name`."""
        self._recent[name].append((seq, state))

    async def state_at(self, noun: Noun[S], seq: int, timeout_s: float = WALK_S) -> S:
        """The state of `noun` after record `seq`, which must be committed and applied.

        Raises CallFailed: ENOENT for a seq that is not applied here, ETIMEDOUT when the walk takes longer than
        timeout_s (the next one goes on where it ended), EIO for a record that this build cannot read; PortFailed,
        LogDamaged.
        """
        if not 0 <= seq <= self.seq:
            raise CallFailed(errno.ENOENT, f"There is no state at seq {seq}: this controller has applied {self.seq}")
        recent = self._recent[noun.name]
        if recent[0][0] <= seq:
            state: S = next(state for at, state in reversed(recent) if at <= seq)
            return state
        walk = _Walk(seq, self._begun)
        self._walks.add(walk)
        try:
            async with asyncio.timeout(timeout_s):
                found: S = await asyncio.get_running_loop().run_in_executor(self._thread, self._walk, noun, walk)
                return found
        except TimeoutError:
            raise CallFailed(errno.ETIMEDOUT, f"The state at seq {seq} was not found in time; ask again") from None
        finally:
            walk.stopped = True
            self._walks.discard(walk)

    def close(self) -> None:
        """End the walk under way and let go of the thread."""
        for walk in self._walks:
            walk.stopped = True
        self._thread.shutdown(cancel_futures=True)

    def _walk(self, noun: Noun[S], walk: _Walk) -> S:
        known, upto = self._checkpoints[noun.name], walk.upto
        at, state = known[bisect_right(known, upto, key=lambda checkpoint: checkpoint[0]) - 1]
        kinds = [event.kind for event in noun.events]
        folded = 0
        try:
            while batch := self._log.of_kinds(kinds, at, upto, BATCH):
                if walk.stopped:
                    raise CallFailed(errno.ECANCELED, f"The state at seq {upto} is not waited for any more")
                for record in batch:
                    state = noun.evolve(state, self._registry.catalogue.open(record))
                at = batch[-1].seq
                folded += len(batch)
                if folded >= STRIDE:
                    self._keep(noun.name, at, state, walk)
                    folded = 0
        except (UnknownKind, msgspec.ValidationError) as e:
            raise CallFailed(errno.EIO, f"The state at seq {upto} cannot be folded: {e}") from None
        finally:
            self._keep(noun.name, at, state, walk)
        if walk.begun != self._begun:
            raise CallFailed(errno.EAGAIN, f"The log was cut while the state at seq {upto} was looked for; ask again")
        found: S = state
        return found

    def _keep(self, name: str, at: int, state: object, walk: _Walk) -> None:
        known = self._checkpoints[name]
        if walk.begun != self._begun or any(seq == at for seq, _ in known):
            return
        insort(known, (at, state), key=lambda checkpoint: checkpoint[0])
        if len(known) > CHECKPOINTS:
            del known[1::2]
