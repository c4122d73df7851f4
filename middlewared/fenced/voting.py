"""Which disks vote, as this fenced decides by it, and how it changes from one set to another.

middlewared states the configuration of the voters with its number; a higher number is a later configuration. From the
first set to the second there are two steps, each a configuration of its own: both vote, then the second alone.

    heard       a number above the one that is decided by
    kept        in the data directory, durably: a boot must not go back behind what this controller said it had left
    decided by  from here on; a ballot that is under way is awaited first
    taken up    where this controller owns: a majority of each set holds its term, and the record is on it

What was taken up is told to both middlewareds (`Standing.voting`, and the other one's by its heartbeat). The second
step is made only when both have taken up the first, so no two configurations are in use that do not share a disk in
every two of their majorities (protocol/quorum.py).

Until middlewared has stated anything in this cluster the boot file's set votes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from middlewared.fenced.disks import Disks
from middlewared.fenced.facts import Facts
from middlewared.fenced.outside import Surroundings
from middlewared.fenced.recording import Recording
from middlewared.kernel.facts import Voting
from middlewared.protocol import hub
from middlewared.protocol.quorum import Quorum
from middlewared.shell.kept_voters import Kept

AGAIN_S = 0.1


class Electorate:
    """claiming: whether a ballot is under way. default: the boot file's voters."""

    def __init__(
        self,
        default: Quorum,
        disks: Disks,
        facts: Facts,
        recording: Recording,
        outside: Surroundings,
        claiming: Callable[[], bool],
    ) -> None:
        self._default = default
        self._disks = disks
        self._facts = facts
        self._recording = recording
        self._outside = outside
        self._claiming = claiming
        self._kept = outside.kept_voters
        self._heard = 0
        self._turn = asyncio.Lock()
        if self._kept is not None:
            self._decide_by(self._kept.voting)
            facts.voting = self._heard = self._kept.voting.number

    def hear(self, settings: hub.Settings) -> Voting | None:
        """What is to be taken up of middlewared's statement."""
        if self._kept is not None and settings.paired and settings.cluster_id != self._kept.cluster_id:
            self._kept, self._heard, self._facts.voting = None, 0, 0
            self._disks.vote(self._default)
        voting = settings.voting
        if voting is None or voting.number <= self._heard:
            return None
        self._heard = voting.number
        return voting

    async def take_up(self, voting: Voting, cluster_id: str) -> None:
        async with self._turn:
            kept = Kept(cluster_id=cluster_id, voting=voting)
            await _until(lambda: self._keeps(kept))
            await _until(self._is_idle)
            self._kept = kept
            self._decide_by(voting)
            await _until(self._is_on_the_disks)
            self._facts.voting = voting.number
            self._outside.note("voters-taken-up", number=voting.number)

    def _decide_by(self, voting: Voting) -> None:
        self._outside.note("voters", number=voting.number, sets=voting.sets)
        self._disks.vote(Quorum(voting.sets))

    async def _is_idle(self) -> bool:
        return not self._claiming()

    async def _keeps(self, kept: Kept) -> bool:
        try:
            await self._outside.keep_voters(kept)
        except OSError as e:
            self._outside.note("voters-not-kept", why=e.strerror)
            return False
        return True

    async def _is_on_the_disks(self) -> bool:
        """Whether what this controller owns is on a majority of each set. One that owns nothing has nothing there."""
        facts = self._facts
        if not facts.owns:
            return True
        if not self._disks.holds(facts.term):
            return False
        return facts.record is None or await self._recording.write(facts.record) is None


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await done():
            return
        await asyncio.sleep(AGAIN_S)
