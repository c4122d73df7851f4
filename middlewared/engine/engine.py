"""The only writer.

A command's way: decide against the state as it will be when everything before is committed; seal the events; propose
them, with all commands that wait, as one group; the replication machine stores and ships the group and moves the commit
index; what it covers is applied, answered and told. A group is formed while the one before is on its way to the disk,
so the group's size follows the load.

A command whose deadline passes has an unknown outcome: it may still commit. It is never answered "failed". Its caller
asks again under the same request id, here or at the next owner, and whatever became of the first copy is the answer:

    it waits to be decided, or was decided here    the second copy joins it
    its records stand in the log, not committed    the second copy waits for what becomes of them
    its records are committed                      their outcome, kernel.outcomes
    none of these                                  nothing happened: it is decided like any other
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from middlewared import log_format
from middlewared.engine import decided
from middlewared.engine.apply import Change, CommittedState, format_of
from middlewared.engine.care import Care
from middlewared.engine.context import Committed
from middlewared.engine.durable import Durable
from middlewared.engine.outside import Tenure
from middlewared.engine.registry import Registry
from middlewared.engine.replicate import Replicator
from middlewared.engine.under_way import UnderWay, Waiter
from middlewared.kernel.errors import (
    CallFailed,
    ConfigBehind,
    MiddlewareError,
    NoRole,
    NotActive,
    OutcomeUnknown,
)
from middlewared.kernel.event import (
    FIRST_FORMAT,
    LOG_FORMAT,
    START,
    Headline,
    Position,
    Record,
    Stamp,
    UnknownKind,
    seal,
)
from middlewared.kernel.outcomes import Outcome, name_of
from middlewared.kernel.tenure import TermBegan
from middlewared.plugin import Command, Noun
from middlewared.ports import Clock
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication_owner import Owner, Phase

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

DEADLINE_S = 10.0
GROUP = 512
GROUP_BYTES = 512 * 1024
WAITING = 4096
RETRY_AFTER_S = 0.1
"""A role that is changing has changed in a moment."""
NOT_SURE = "This controller has not heard lately that it is still the owner; nothing was written"
"""Instead of a refusal: the next owner may have written meanwhile what the command needs."""
ENGINE_ACTOR = "middlewared"


class Engine:
    """Executes commands in the term that it is given, and applies what is committed on either controller.

    deadline_s: how long a command may wait for its commit. begins_in: the format of a log that begins here.
    """

    def __init__(
        self,
        registry: Registry,
        state: CommittedState,
        clock: Clock,
        origin: str,
        tenure: Tenure,
        *,
        on_change: Callable[[list[Change]], None],
        on_cut: Callable[[Position, int, bool], Awaitable[None]],
        on_fatal: Callable[[str], None],
        deadline_s: float = DEADLINE_S,
        begins_in: int = LOG_FORMAT,
    ) -> None:
        self._registry = registry
        self._state = state
        self._clock = clock
        self._origin = origin
        self._tenure = tenure
        self._on_change = on_change
        self._on_cut = on_cut
        self._on_fatal = on_fatal
        self._deadline_s = deadline_s
        self._begins_in = begins_in
        self._replicator: Replicator
        self.care: Care
        self._term: int | None = None
        self._not_opened: str | None = None
        self._ahead: dict[str, Any] = {}
        self._under_way = UnderWay()
        self._durable = Durable()
        self._storing = 0
        self._kicked = False

    def attach(self, replicator: Replicator) -> None:
        """Give the engine the log. The two know each other: one proposes, the other says what became of it."""
        self._replicator = replicator
        self.care = replicator.care = Care(self._state, replicator)

    def writes_wait(self) -> bool:
        """Whether commands were taken that are not decided yet."""
        return self._under_way.queued > 0

    # --- what dispatch asks ---

    def state(self, noun: Noun[S]) -> S:
        """The committed state of a noun."""
        state: S = self._state.states[noun.name]
        return state

    @property
    def states(self) -> Mapping[str, Any]:
        return self._state.states

    def applied(self) -> Position:
        """The last record that is committed and applied."""
        return self._state.applied

    def noun_of(self, kind: str) -> str | None:
        """Whose state an event of `kind` changes; None for events of the engine itself."""
        return self._registry.noun_of.get(kind)

    def has_noun(self, collection: str) -> bool:
        return collection in self._registry.nouns

    async def headlines(self, after: int, upto: int) -> list[Headline]:
        return await self._replicator.headlines(after, upto)

    async def state_at(self, noun: Noun[S], seq: int) -> S:
        """The state of a noun after record `seq`; see History.state_at."""
        return await self._state.history.state_at(noun, seq)

    async def outcome_of(self, *, actor: str, request_id: str) -> Outcome | None:
        """The committed outcome of a request; None where there is none, or none yet."""
        await self._state.indexed()
        seen = self._state.requests.find((request_id, name_of(actor)))
        return seen.outcome if seen is not None and seen.at is None else None

    async def wait_durable(self, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        return await self._durable.wait(self._replicator.replica, seq, level, timeout_s)

    async def state_digest(self) -> tuple[int, str]:
        return await self._state.digest()

    def is_owner(self) -> bool:
        """Whether this controller holds the term."""
        return isinstance(self._replicator.replica.side, Owner)

    def gate_write(self) -> None:
        """Raises NotActive, NoRole or ConfigBehind where this controller may not write; ENOSPC where it has no room."""
        replica = self._replicator.replica
        if replica.halted is not None:
            raise CallFailed(errno.EIO, f"This controller has halted: {replica.halted}")
        side = replica.side
        if not isinstance(side, Owner):
            if self._tenure.is_standby():
                raise NotActive(replica.identity.node, self._tenure.active_urls())
            raise NoRole("This controller has no role yet")
        if side.phase is Phase.BEHIND:
            raise ConfigBehind(side.why)
        if self._term is None:
            if self._not_opened is not None:
                raise ConfigBehind(self._not_opened)
            raise NoRole("This controller has just become the owner and is completing its log")
        if self._tenure.closing is not None:
            raise NoRole(self._tenure.closing)
        why_not = self._replicator.no_room()
        if why_not is not None:
            raise CallFailed(errno.ENOSPC, why_not)

    async def execute(
        self, command: Command, *, actor: str, origin: str, request_id: str, method: str = ""
    ) -> Committed:
        """Decide, make durable, commit, apply; or answer what an earlier copy of the command came to.

        Raises what `decide` raises, what gate_write raises, and OutcomeUnknown after the deadline.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._state.indexed()
                self.gate_write()
                mine = Waiter(command, f"{actor}@{origin}", request_id, method)
                committed = self._replicator.replica.log.committed.seq
                found = self._under_way.copy_of(mine, self._state.requests, self._registry.noun_of, committed)
                if isinstance(found, Outcome):
                    return self._committed(found.last, found.term, found.events, again=True)
                if found is not None:
                    return msgspec.structs.replace(await found.join(), again=True)
                return await self._enqueued(mine)
        except TimeoutError:
            raise OutcomeUnknown(request_id) from None

    def _enqueued(self, waiter: Waiter) -> asyncio.Future[Committed]:
        if self._under_way.queued >= WAITING:
            raise CallFailed(errno.EBUSY, f"{WAITING} writes are waiting already")
        self._under_way.enqueue(waiter)
        self._kick()
        return waiter.join()

    # --- groups ---

    def _kick(self) -> None:
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._group)

    def _group(self) -> None:
        """Decide what waits, and propose it as one group."""
        self._kicked = False
        if self._term is None or self._storing or not self._under_way.queued:
            return
        records: list[Record] = []
        position = self._replicator.replica.log.tip
        size = 0
        while len(records) < GROUP and size < GROUP_BYTES and (waiter := self._under_way.next()) is not None:
            made: list[Record] = []
            try:
                made = self._decide(waiter, position)
            except Exception as e:
                if not isinstance(e, MiddlewareError):
                    log.exception("event=decide_failed noun=%s", waiter.command.noun)
                waiter.refusal = e if self._tenure.is_sure() else NoRole(NOT_SURE, RETRY_AFTER_S)
            records += made
            size += sum(len(record.payload) for record in made)
            position = records[-1].position if records else position
            waiter.events = len(made)
            self._under_way.decided(waiter, position, self._term)
        if records:
            self._replicator.feed(values.Proposed(tuple(records)))
        self._answer([])

    def _decide(self, waiter: Waiter, position: Position) -> list[Record]:
        noun = self._registry.nouns[waiter.command.noun]
        state = self._ahead[noun.name]
        events = noun.decide(state, waiter.command)
        stamp = self._stamp(waiter.actor, waiter.request_id, waiter.method)
        written_in = format_of(self._ahead)
        records, self._ahead[noun.name] = decided.write(
            noun, state, events, position, stamp, self._registry.catalogue, written_in
        )
        return records

    def _stamp(self, actor: str, request_id: str, method: str = "") -> Stamp:
        assert self._term is not None
        return Stamp(
            term=self._term,
            origin=self._origin,
            actor=actor,
            request_id=request_id,
            wall_ns=self._clock.wall_ns(),
            method=method,
        )

    def _answer(self, changes: Sequence[Change]) -> None:
        """Answer every command whose last record is committed and applied.

        A command outlives its term: its record may be committed by the next owner. Whether it is the same record that
        was committed at its place, the hash says.
        """
        replica_log = self._replicator.replica.log
        committed = {change.record.seq: change.record.hash for change in changes}
        for waiter in self._under_way.reached(replica_log.committed.seq):
            if committed.get(waiter.at.seq, waiter.at.hash) != waiter.at.hash:
                self._under_way.finish(waiter, OutcomeUnknown(waiter.request_id))
            elif waiter.refusal is not None:
                self._under_way.finish(waiter, waiter.refusal)
            else:
                self._under_way.finish(waiter, self._committed(waiter.at.seq, waiter.term, waiter.events))

    def _committed(self, seq: int, term: int, events: int, *, again: bool = False) -> Committed:
        level = "pair" if seq <= self._replicator.replica.log.pair_seq else "single"
        return Committed(seq, term, level, events, again)

    # --- what the replicator tells ---

    def storing(self, records: tuple[Record, ...]) -> None:
        self._storing += 1
        self._state.follow(records)
        if any(record.kind == log_format.Raised.kind for record in records):
            self._replicator.replica.goes_on_in(self._state.written_format())

    def stored(self, groups: int) -> None:
        self._storing -= groups
        if self._under_way.queued:
            self._group()

    def committed(self, commit_seq: int, pair_seq: int) -> None:
        if self._state.paused:
            return
        changes = self._state.commit(commit_seq, pair_seq)
        self._answer(changes)
        self._durable.moved()
        self._replicator.feed(values.Applied(self._state.applied.seq, self._state.blocked or ""))
        if changes:
            self._on_change(changes)

    def opened(self, term: int, adopted: int) -> None:
        """Writes may begin. The first record of the term is written before anything else can be."""
        if self._state.taking.locked():
            self._replicator.spawn(self._open_when_taken(term, adopted))
            return
        self._not_opened = self._look_ahead()
        if self._not_opened is not None:
            log.error("event=not_opened why=%r", self._not_opened)
            return
        self._term = term
        side = self._replicator.replica.side
        tip = self._replicator.replica.log.tip
        began = TermBegan(
            owner=self._replicator.replica.identity.node,
            reason=self._tenure.why(),
            prev_last_seq=tip.seq,
            in_sync=tuple(sorted(side.synced)) if isinstance(side, Owner) else (),
            adopted=adopted,
            pair_seq=self._replicator.replica.log.pair_seq,
        )
        stamp = self._stamp(ENGINE_ACTOR, "")
        records = [seal(began, tip, stamp)]
        if tip == START:
            records += self._format_of_a_new_log(records[0].position, stamp)
        log.info("event=open term=%d after=%d adopted=%d", term, tip.seq, adopted)
        self._replicator.feed(values.Proposed(tuple(records)))

    def _format_of_a_new_log(self, after: Position, stamp: Stamp) -> list[Record]:
        """A log that begins here begins in the newest format, unless it would leave behind who is on the line."""
        if self._begins_in == FIRST_FORMAT or not self._replicator.replica.peer_reads(self._begins_in):
            return []
        raised = log_format.Raised(log_format=self._begins_in)
        self._ahead[log_format.NOUN.name] = log_format.evolve(self._ahead[log_format.NOUN.name], raised)
        return [seal(raised, after, stamp)]

    async def _open_when_taken(self, term: int, adopted: int) -> None:
        """Another state is being taken over: nothing may be decided against the old one."""
        async with self._state.taking:
            pass
        side = self._replicator.replica.side
        if isinstance(side, Owner) and side.term == term and side.phase is Phase.OPEN:
            self.opened(term, adopted)

    def _look_ahead(self) -> str | None:
        """Fold what is not committed yet, too: commands are decided against it. Returns why that cannot be done."""
        if self._state.blocked is not None:
            return self._state.blocked
        try:
            self._ahead = self._state.ahead()
        except (UnknownKind, msgspec.ValidationError) as e:
            return self._state.blocked or str(e)
        return None

    def closed(self, why: str) -> None:
        """No more writes in this term. What was decided waits for what becomes of its record; the rest is refused."""
        log.warning("event=closed why=%r", why)
        self._term = self._not_opened = None
        self._under_way.refuse_queued(NoRole(why, RETRY_AFTER_S))

    async def was_cut(self, at: Position, count: int) -> None:
        log.warning("event=tail_quarantined after=%d count=%d", at.seq, count)
        for waiter in self._under_way.cut_after(at.seq):
            self._under_way.finish(waiter, OutcomeUnknown(waiter.request_id))
        applied = at.seq < self._state.applied.seq
        if not applied:
            self._state.cut_after(at.seq)
        await self._on_cut(at, count, applied)
        self._replicator.replica.goes_on_in(self._state.written_format())

    def resume(self) -> None:
        """Apply what was committed while another state was taken over."""
        ends = self._replicator.replica.log
        self.committed(ends.committed.seq, ends.pair_seq)

    def halted(self, why: str) -> None:
        log.critical("event=halted why=%r", why)
        self._durable.moved()

    def fatal(self, why: str) -> None:
        self._on_fatal(why)
