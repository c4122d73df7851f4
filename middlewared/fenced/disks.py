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
from middlewared.ports import Clock, Voter
from middlewared.protocol.hub import VoterState
from middlewared.protocol.quorum import Quorum
from middlewared.shell.absent import Absent

WHOSE_S = 2.0
"""How often it is looked whose slots are on a disk that does not vote: it may be named to."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of shared disks, voters and others. held: by us, in our term, and reachable. unknown: not asked yet."""

    disks: int
    reachable: int
    held: int
    unknown: int


class _Seen:
    """What one disk said last. The times are those at which the question was put, not when the answer came.

    asked_at: when the last question was put that was answered or timed out. What follows it is of a voter only.
    """

    def __init__(self, voter: Voter) -> None:
        self.voter = voter
        self.state = VoterState(name=voter.name, reachable=False, term=0, owner=None, sets=(), keeps=voter.keeps)
        self.busy = False
        self.asked_at: float | None = None
        self.whose_at = 0.0
        self.forget_vote()

    def forget_vote(self) -> None:
        self.granted_at: float | None = None  # our heartbeat, in our term
        self.readable_since: float | None = None  # without a break
        self.beat: int | None = None
        self.beat_at: float | None = None  # when its count was seen to change
        self.record: PairRecord | None = None

    @property
    def name(self) -> str:
        return self.voter.name

    @property
    def votes(self) -> bool:
        return bool(self.state.sets)


class Disks:
    """The shared disks of one controller.

    disks: all that it has a way to. quorum: which of them vote at first. on_news: called after each answer, in the
    event loop.
    """

    def __init__(
        self, node: Node, disks: Sequence[Voter], quorum: Quorum, clock: Clock, on_news: Callable[[], None]
    ) -> None:
        self._node = node
        self._clock = clock
        self._on_news = on_news
        self._every = {disk.name: _Seen(disk) for disk in disks}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._valid_since = 0.0
        self.quorum = Quorum()
        self.vote(quorum)

    def vote(self, quorum: Quorum) -> None:
        """Let these disks vote from now on. One that this controller has no way to is silent for ever."""
        self.quorum = quorum
        for name in quorum.members:
            if name not in self._every:
                self._every[name] = _Seen(Absent(name))
        for seen in self._every.values():
            sets = quorum.sets_of(seen.name)
            if bool(sets) != seen.votes:
                seen.forget_vote()
                seen.whose_at, seen.state = 0.0, msgspec.structs.replace(seen.state, whose="", slots_error="")
            seen.state = msgspec.structs.replace(seen.state, sets=sets)
        self._voting = [self._every[name] for name in quorum.members]

    def look_at_slots_anew(self) -> None:
        """The key by which they are read is known now, or is another."""
        for seen in self._every.values():
            seen.whose_at = 0.0

    # What is known

    @property
    def voters(self) -> dict[str, Voter]:
        return {seen.name: seen.voter for seen in self._voting}

    def states(self) -> tuple[VoterState, ...]:
        return tuple(seen.state for seen in self._voting)

    def others(self) -> tuple[VoterState, ...]:
        return tuple(seen.state for seen in self._every.values() if not seen.votes)

    def held(self, term: int) -> Held:
        """How many of all the shared disks the peer cannot write, since we hold them in `term`."""
        every = self._every.values()
        reachable = [seen for seen in every if seen.state.reachable]
        ours = [seen for seen in reachable if seen.asked_at is not None and seen.asked_at >= self._valid_since]
        held = sum(seen.state.owner == self._node and seen.state.term == term for seen in ours)
        unknown = sum(seen.asked_at is None or seen.asked_at < self._valid_since for seen in every)
        return Held(disks=len(every), reachable=len(reachable), held=held, unknown=unknown)

    def highest_term(self) -> int:
        return max((seen.state.term for seen in self._every.values()), default=0)

    def holds(self, term: int) -> bool:
        """Whether a majority granted our heartbeat in `term` since it began."""
        granted = [s for s in self._voting if s.granted_at is not None and s.granted_at > self._valid_since]
        return self.quorum.has({s.name for s in granted if s.state.owner == self._node and s.state.term == term})

    def confirmed_at(self) -> float | None:
        """When a majority of the disks last granted our heartbeat."""
        return self.quorum.last({s.name: s.granted_at for s in self._voting if s.granted_at is not None})

    def readable_since(self) -> float | None:
        """Since when a majority can be read without a break; None: they cannot."""
        return self.quorum.since({s.name: s.readable_since for s in self._voting if s.readable_since is not None})

    def beat_at(self) -> float | None:
        """When the owner's heartbeat was last seen to change, on any disk."""
        return max((seen.beat_at for seen in self._voting if seen.beat_at is not None), default=None)

    def all_asked_since(self, since: float) -> bool:
        """Whether every voter answered, or failed to, a question put after `since`."""
        return all(seen.asked_at is not None and seen.asked_at >= since for seen in self._voting)

    def record(self) -> PairRecord | None:
        """The latest record that was seen by reading."""
        return _latest([seen.record for seen in self._voting])

    # Asking

    def forget_ages(self, now: float) -> None:
        """This controller slept: what was seen before proves nothing now, and what is still owed is not waited for."""
        self._valid_since = now
        for seen in self._every.values():
            seen.busy = False
            seen.state = msgspec.structs.replace(seen.state, reachable=False)
            seen.readable_since = now if seen.readable_since is not None else None

    def beat(self, term: int, count: int) -> None:
        """Put the owner's heartbeat on every voter. A disk that lacks our key in this term is claimed for it."""
        for seen in self._every.values():
            self._ask(seen, self._beat_one(seen, term, count) if seen.votes else self._hold(seen, term))

    def look(self) -> None:
        """Read every disk: who holds it; and of a voter the owner's heartbeat and the record."""
        for seen in self._every.values():
            self._ask(seen, self._look_at(seen) if seen.votes else self._hold(seen, None))

    def start_owning(self, term: int, now: float) -> None:
        """A majority granted `term` a moment ago."""
        self._valid_since = now
        for seen in self._voting:
            seen.granted_at, seen.readable_since, seen.beat = now, None, None
            seen.state = msgspec.structs.replace(seen.state, reachable=True, term=term, owner=self._node)

    async def release(self, term: int) -> None:
        """Free every disk that we hold in `term`."""
        await asyncio.gather(*(seen.voter.release(self._node, term) for seen in self._every.values()))

    async def read_record(self) -> PairRecord | Silent | None:
        """The latest record, read from a majority; None where none was ever written."""
        voting, quorum = self._voting, self.quorum
        records = await asyncio.gather(*(seen.voter.read_record() for seen in voting))
        read = {s.name: record for s, record in zip(voting, records, strict=True) if not isinstance(record, Silent)}
        if voting and not quorum.has(read):
            return Silent(f"only {len(read)} of {len(records)} disks gave their record")
        return _latest(list(read.values()))

    async def write_record(self, record: PairRecord) -> str | None:
        """Write it to all, in order with other writes; None once a majority holds it, otherwise why not."""
        async with self._writing:
            voting, quorum = self._voting, self.quorum
            writes = [asyncio.ensure_future(self._write_record(seen, record)) for seen in voting]
            granted, refusals = set[str](), list[str]()
            for next_answer in asyncio.as_completed(writes):
                name, answer = await next_answer
                if not isinstance(answer, Granted):
                    refusals.append(_refusal(answer))
                    continue
                granted.add(name)
                if quorum.has(granted):
                    return None
            return "; ".join(refusals) or "there are no shared disks"

    async def _write_record(self, seen: _Seen, record: PairRecord) -> tuple[str, Answer]:
        return seen.name, await seen.voter.write_record(self._node, record)

    def _ask(self, seen: _Seen, question: Coroutine[None, None, None]) -> None:
        if seen.busy:
            question.close()
            return
        seen.busy = True
        task = asyncio.create_task(self._asked(seen, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, seen: _Seen, question: Coroutine[None, None, None]) -> None:
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
            silent = next(said for said in (holding, beat, record) if isinstance(said, Silent))
            self._saw(seen, silent, put_at)
            return
        if seen.readable_since is None:
            # The first reading after a break shows nothing of when the count changed.
            seen.readable_since, seen.beat = put_at, beat
        if beat != seen.beat:
            seen.beat, seen.beat_at = beat, put_at
        seen.record = record
        self._saw(seen, holding, put_at)

    async def _hold(self, seen: _Seen, term: int | None) -> None:
        """See who holds it; where `term` is ours, that is to be us."""
        put_at = self._clock.boottime()
        holding = await seen.voter.read()
        if term is not None and isinstance(holding, Holding) and holding.term < term:
            answer = await seen.voter.claim(self._node, term, holding)
            holding = answer if isinstance(answer, Silent) else answer.holding
        self._saw(seen, holding, put_at)
        if put_at - seen.whose_at >= WHOSE_S:
            seen.whose_at = put_at
            said = await seen.voter.whose()
            whose, error = ("", said.why) if isinstance(said, Silent) else (said, "")
            seen.state = msgspec.structs.replace(seen.state, whose=whose, slots_error=error)

    def _saw(self, seen: _Seen, holding: Holding | Silent, put_at: float) -> None:
        if put_at < self._valid_since:
            return  # asked before a term was won, or before a sleep: the answer tells of the time before
        if isinstance(holding, Silent):
            seen.state = msgspec.structs.replace(seen.state, reachable=False, why=holding.why)
        else:
            term, owner = holding.term, holding.owner
            seen.state = msgspec.structs.replace(seen.state, reachable=True, term=term, owner=owner, why="")


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
