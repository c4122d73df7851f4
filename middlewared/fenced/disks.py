"""All shared disks together: what each was last seen to hold, the owner's heartbeat to them, the record on them.

Voters grant the term by a majority. The others only hold pools: the owner reserves them in its term as well, since what
is not reserved can be written by the peer.

Each disk is asked in parallel and by its own deadline, and is not asked anew while it still owes an answer, so a slow
disk delays no other. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import msgspec

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Silent
from middlewared.ports import Clock, Reservation, Voter
from middlewared.protocol.hub import VoterState


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of shared disks, voters and others. held: by us, in our term, and reachable. unknown: not asked yet."""

    disks: int
    reachable: int
    held: int
    unknown: int


class _Asked:
    """One disk. asked_at: when the last question was put that was answered or timed out."""

    def __init__(self, name: str) -> None:
        self.state = VoterState(name=name, reachable=False, term=0, owner=None)
        self.busy = False
        self.asked_at: float | None = None


class _Seen(_Asked):
    """What one voter said last. The times are those at which the question was put, not when the answer came."""

    def __init__(self, voter: Voter) -> None:
        super().__init__(voter.name)
        self.voter = voter
        self.granted_at: float | None = None  # our heartbeat, in our term
        self.readable_since: float | None = None  # without a break
        self.beat: int | None = None
        self.beat_at: float | None = None  # when its count was seen to change
        self.record: PairRecord | None = None


class _Other(_Asked):
    """One disk that does not vote."""

    def __init__(self, disk: Reservation) -> None:
        super().__init__(disk.name)
        self.disk = disk


class Disks:
    """The shared disks of one controller.

    others: those that do not vote. on_news: called after each answer, in the event loop.
    """

    def __init__(
        self,
        node: Node,
        voters: Sequence[Voter],
        others: Sequence[Reservation],
        clock: Clock,
        on_news: Callable[[], None],
    ) -> None:
        self.voters = {voter.name: voter for voter in voters}
        self._node = node
        self._clock = clock
        self._on_news = on_news
        self._seen = [_Seen(voter) for voter in voters]
        self._others = [_Other(disk) for disk in others]
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._valid_since = 0.0

    # What is known

    def states(self) -> tuple[VoterState, ...]:
        return tuple(seen.state for seen in self._seen)

    def others(self) -> tuple[VoterState, ...]:
        return tuple(other.state for other in self._others)

    def held(self, term: int) -> Held:
        """How many of all the shared disks the peer cannot write, since we hold them in `term`."""
        every: list[_Asked] = [*self._seen, *self._others]
        reachable = [seen for seen in every if seen.state.reachable]
        ours = [seen for seen in reachable if seen.asked_at is not None and seen.asked_at >= self._valid_since]
        held = sum(seen.state.owner == self._node and seen.state.term == term for seen in ours)
        unknown = sum(seen.asked_at is None or seen.asked_at < self._valid_since for seen in every)
        return Held(disks=len(every), reachable=len(reachable), held=held, unknown=unknown)

    def majority(self, count: int) -> bool:
        return count > len(self._seen) // 2

    def highest_term(self) -> int:
        return max((seen.state.term for seen in self._seen), default=0)

    def confirmed_at(self) -> float | None:
        """When a majority of the disks last granted our heartbeat."""
        return self._majority_has(sorted((s.granted_at for s in self._seen if s.granted_at is not None), reverse=True))

    def readable_since(self) -> float | None:
        """Since when a majority can be read without a break; None: they cannot."""
        return self._majority_has(sorted(s.readable_since for s in self._seen if s.readable_since is not None))

    def beat_at(self) -> float | None:
        """When the owner's heartbeat was last seen to change, on any disk."""
        return max((seen.beat_at for seen in self._seen if seen.beat_at is not None), default=None)

    def all_asked_since(self, since: float) -> bool:
        """Whether every disk answered, or failed to, a question put after `since`."""
        return all(seen.asked_at is not None and seen.asked_at >= since for seen in self._seen)

    def record(self) -> PairRecord | None:
        """The latest record that was seen by reading."""
        return _latest([seen.record for seen in self._seen])

    def _majority_has(self, times: list[float]) -> float | None:
        needed = len(self._seen) // 2 + 1
        return times[needed - 1] if len(times) >= needed else None

    # Asking

    def forget_ages(self, now: float) -> None:
        """This controller slept: what was seen before proves nothing now, and what is still owed is not waited for."""
        self._valid_since = now
        for seen in self._seen:
            seen.busy = False
            seen.state = msgspec.structs.replace(seen.state, reachable=False)
            seen.readable_since = now if seen.readable_since is not None else None
        for other in self._others:
            other.busy = False
            other.state = msgspec.structs.replace(other.state, reachable=False)

    def beat(self, term: int, count: int) -> None:
        """Put the owner's heartbeat on every voter. A disk that lacks our key in this term is claimed for it."""
        for seen in self._seen:
            self._ask(seen, self._beat_one(seen, term, count))
        for other in self._others:
            self._ask(other, self._hold(other, term))

    def look(self) -> None:
        """Read every disk: who holds it, the owner's heartbeat, the record."""
        for seen in self._seen:
            self._ask(seen, self._look_at(seen))
        for other in self._others:
            self._ask(other, self._hold(other, None))

    def start_owning(self, term: int, now: float) -> None:
        """A majority granted `term` a moment ago."""
        self._valid_since = now
        for seen in self._seen:
            seen.granted_at, seen.readable_since, seen.beat = now, None, None
            seen.state = msgspec.structs.replace(seen.state, reachable=True, term=term, owner=self._node)

    async def release(self, term: int) -> None:
        """Free every disk that we hold in `term`."""
        disks: list[Reservation] = [*(seen.voter for seen in self._seen), *(other.disk for other in self._others)]
        await asyncio.gather(*(disk.release(self._node, term) for disk in disks))

    async def read_record(self) -> PairRecord | Silent | None:
        """The latest record, read from a majority; None where none was ever written."""
        records = await asyncio.gather(*(seen.voter.read_record() for seen in self._seen))
        read = [record for record in records if not isinstance(record, Silent)]
        if self._seen and not self.majority(len(read)):
            return Silent(f"only {len(read)} of {len(records)} disks gave their record")
        return _latest(read)

    async def write_record(self, record: PairRecord) -> str | None:
        """Write it to all, in order with other writes; None once a majority holds it, otherwise why not."""
        async with self._writing:
            writes = [asyncio.ensure_future(seen.voter.write_record(self._node, record)) for seen in self._seen]
            granted, refusals = 0, list[str]()
            for next_answer in asyncio.as_completed(writes):
                answer = await next_answer
                granted += isinstance(answer, Granted)
                refusals += [] if isinstance(answer, Granted) else [_refusal(answer)]
                if self.majority(granted):
                    return None
            return "; ".join(refusals) or "there are no shared disks"

    def _ask(self, seen: _Asked, question: Coroutine[None, None, None]) -> None:
        if seen.busy:
            question.close()
            return
        seen.busy = True
        task = asyncio.create_task(self._asked(seen, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, seen: _Asked, question: Coroutine[None, None, None]) -> None:
        put_at = self._clock.boottime()
        try:
            await question
        finally:
            seen.busy, seen.asked_at = False, put_at
            self._on_news()

    async def _beat_one(self, seen: _Seen, term: int, count: int) -> None:
        put_at = self._clock.boottime()
        answer = await seen.voter.beat(self._node, term, count)
        if isinstance(answer, Denied) and answer.holding.term < term:
            answer = await seen.voter.claim(self._node, term, answer.holding)
        if isinstance(answer, Granted):
            seen.granted_at = max(put_at, seen.granted_at or put_at)
        self._saw(seen, answer if isinstance(answer, Silent) else answer.holding, put_at)

    async def _look_at(self, seen: _Seen) -> None:
        put_at = self._clock.boottime()
        holding, beat, record = await asyncio.gather(
            seen.voter.read(), seen.voter.read_beat(), seen.voter.read_record()
        )
        if isinstance(holding, Silent) or isinstance(beat, Silent) or isinstance(record, Silent):
            seen.readable_since = None
            self._saw(seen, Silent(seen.voter.name), put_at)
            return
        if seen.readable_since is None:
            # The first reading after a break shows nothing of when the count changed.
            seen.readable_since, seen.beat = put_at, beat
        if beat != seen.beat:
            seen.beat, seen.beat_at = beat, put_at
        seen.record = record
        self._saw(seen, holding, put_at)

    async def _hold(self, other: _Other, term: int | None) -> None:
        """See who holds it; where `term` is ours, that is to be us."""
        put_at = self._clock.boottime()
        holding = await other.disk.read()
        if term is not None and isinstance(holding, Holding) and holding.term < term:
            answer = await other.disk.claim(self._node, term, holding)
            holding = answer if isinstance(answer, Silent) else answer.holding
        self._saw(other, holding, put_at)

    def _saw(self, seen: _Asked, holding: Holding | Silent, put_at: float) -> None:
        if put_at < self._valid_since:
            return  # asked before a term was won, or before a sleep: the answer tells of the time before
        if isinstance(holding, Silent):
            seen.state = msgspec.structs.replace(seen.state, reachable=False)
        else:
            seen.state = msgspec.structs.replace(seen.state, reachable=True, term=holding.term, owner=holding.owner)


def _refusal(answer: Answer) -> str:
    match answer:
        case Silent(why=why):
            return why
        case Denied(holding=holding) | Granted(holding=holding):
            return f"held by {holding.owner or 'nobody'} in term {holding.term}"


def _latest(records: Sequence[PairRecord | None]) -> PairRecord | None:
    written = [record for record in records if record is not None]
    return max(written, key=lambda record: (record.term, record.serial), default=None)


def later(one: PairRecord | None, two: PairRecord | None) -> PairRecord | None:
    """The later of two records."""
    return _latest([one, two])
