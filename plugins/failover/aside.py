"""The methods of `failover.quarantine`: what was cut from a log is listed, compared, asked for again, or given up."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from middlewared.kernel.errors import CallFailed, MiddlewareError, Refused
from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node, other
from middlewared.kernel.tail import Page, Tail
from middlewared.plugin import (
    Aside,
    Call,
    Command,
    Difference,
    Duty,
    DutyCall,
    JobCall,
    PeerCall,
    command,
    job,
    peer,
    query,
)

from . import quarantine
from .quarantine import Conclude, Discard, Entry, Fate, Note, Refusal, Result

ROWS_LIMIT = 1000
BATCH = 256
PEER_TIMEOUT_S = 10.0

When = dict[str, int]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A tail in quarantine. node: the controller that has its file.

    first, last: seqs; count: events, of which `answered` are known to have been answered to somebody, at level single
    (null: not known at all).
    at: when it was cut; since, until: of its first and last event; times are {"$date": ms since 1970, UTC}.
    noted: whether both controllers know of it. reason: why it was discarded. result: of reapplying it.
    """

    id: str
    node: Node
    state: Fate
    first: int
    last: int
    count: int
    answered: int | None
    terms: tuple[int, ...]
    kinds: dict[str, int]
    actors: tuple[str, ...]
    at: When
    since: When
    until: When
    digest: str
    noted: bool
    reason: str
    result: Result | None


class DiffOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """limit: rows, 1-1000."""

    offset: int = 0
    limit: int = ROWS_LIMIT


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """total: how many rows there are; conflicts: how many of them were changed since to something else."""

    id: str
    total: int
    conflicts: int
    rows: tuple[Difference, ...]


# --- what the other controller asks ---


@peer("failover.quarantine.digests")
async def own_digests(call: PeerCall) -> list[str]:
    """Of the tails that lie here, oldest first."""
    return [tail.digest for tail in call.controller.aside.tails()]


@peer("failover.quarantine.tail")
async def own_tail(call: PeerCall, digest: str) -> Tail:
    """What is known of one of them."""
    aside = call.controller.aside
    for tail in aside.tails():
        if tail.digest == digest:
            return await _known_of(aside, tail)
    raise CallFailed(errno.ENOENT, f"Controller {call.node} has no tail {digest} in quarantine")


@peer("failover.quarantine.page")
async def own_page(call: PeerCall, digest: str, offset: int) -> Page:
    """Some of its records."""
    return await call.controller.aside.page(digest, offset)


# --- finding a tail and its records ---


async def _unnoted(call: Call | DutyCall) -> list[Tail]:
    """The tails of both controllers that are not noted; of the other one as far as it answers."""
    state, aside = call.state(quarantine.NOUN), call.controller.aside
    mine = [await _known_of(aside, tail) for tail in aside.tails() if state.of(tail.id) is None]
    try:
        there = msgspec.convert(await call.controller.ask_peer("failover.quarantine.digests"), list[str])
        known = state.digests(other(call.node), "open", "reapplied", "discarded")
        theirs = [await _tail_of_peer(call, digest) for digest in there if digest not in known]
    except CallFailed:
        theirs = []
    return mine + theirs


async def _known_of(aside: Aside, tail: Tail) -> Tail:
    """The tail with what its records say; without, where its file is damaged."""
    try:
        return await aside.described(tail.digest)
    except CallFailed:
        return tail


async def _tail_of_peer(call: Call | DutyCall, digest: str) -> Tail:
    answer = await call.controller.ask_peer("failover.quarantine.tail", digest, timeout_s=PEER_TIMEOUT_S)
    return msgspec.convert(answer, Tail)


async def _entry(call: Call, id_: str) -> Entry:
    entry = call.state(quarantine.NOUN).of(id_)
    if entry is not None:
        return entry
    for tail in await _unnoted(call):
        if tail.id == id_:
            return Entry(tail=tail)
    raise Refused(("id", f"there is no tail {id_} in quarantine", errno.ENOENT))


async def _noted(call: Call, id_: str) -> Entry:
    """The entry, known to both controllers when this returns."""
    entry = await _entry(call, id_)
    if call.state(quarantine.NOUN).of(id_) is None:
        if call.controller.facts().log_format < quarantine.LOG_FORMAT:
            raise CallFailed(
                errno.EOPNOTSUPP, "The log cannot say so yet: run upgrade.finalize on both controllers first"
            )
        await call.execute_each([(_request_id(entry.tail, "noted"), Note(tail=entry.tail))])
    return entry


async def _pages(call: Call, tail: Tail) -> AsyncIterator[Sequence[Record]]:
    """The tail's records from the controller that has them. Raises CallFailed when it is away or has them no more."""
    offset: int | None = 0
    while offset is not None:
        if tail.node == call.node:
            page = await call.controller.aside.page(tail.digest, offset)
        else:
            answer = await call.controller.ask_peer(
                "failover.quarantine.page", tail.digest, offset, timeout_s=PEER_TIMEOUT_S
            )
            page = msgspec.convert(answer, Page)
        yield page.records
        offset = page.next


def _request_id(tail: Tail, what: str) -> str:
    """The id of one request about a tail: the same whenever it is made again."""
    h = hashlib.sha256(f"{tail.digest}:{what}".encode()).hexdigest()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}"


# --- methods ---


@query("failover.quarantine.list", roles=("FAILOVER_READ",))
async def list_tails(call: Call) -> list[Listed]:
    """Every tail that was cut from either controller's log, and what was decided about it."""
    noted = [_listed(entry, noted=True) for entry in call.state(quarantine.NOUN).entries]
    return noted + [_listed(Entry(tail=tail), noted=False) for tail in await _unnoted(call)]


def _listed(entry: Entry, *, noted: bool) -> Listed:
    tail = entry.tail
    return Listed(
        id=tail.id,
        node=tail.node,
        state=entry.fate,
        first=tail.first,
        last=tail.last,
        count=tail.n,
        answered=tail.answered,
        terms=tail.terms,
        kinds=tail.kinds,
        actors=tail.actors,
        at=_date(tail.at_ns),
        since=_date(tail.since_ns),
        until=_date(tail.until_ns),
        digest=tail.digest,
        noted=noted,
        reason=entry.reason,
        result=entry.result,
    )


def _date(ns: int) -> When:
    return {"$date": ns // 1_000_000}


@query("failover.quarantine.diff", roles=("FAILOVER_READ",))
async def diff(call: Call, id: str, options: DiffOptions = DiffOptions()) -> Diff:  # noqa: A002, B008
    """What a tail would change: each field as it was, as the tail made it, as it is, and as it would be again."""
    if options.offset < 0 or not 1 <= options.limit <= ROWS_LIMIT:
        raise Refused(("options.limit", f"must be 1-{ROWS_LIMIT}, and the offset not negative"))
    entry = await _entry(call, id)
    fold = None
    async for records in _pages(call, entry.tail):
        fold = fold or await call.controller.aside.fold(records[0])
        for record in records:
            fold.take(record)
    rows = fold.differences() if fold is not None else ()
    return Diff(
        id=id,
        total=len(rows),
        conflicts=sum(row.conflict for row in rows),
        rows=tuple(rows[options.offset : options.offset + options.limit]),
    )


@job("failover.quarantine.reapply", kind="write", roles=("FAILOVER_WRITE",))
async def reapply(call: JobCall, id: str) -> Result:  # noqa: A002
    """Ask again for what a tail's events said, in their order; each is decided against what is now.

    Nothing is done twice: a tail that was reapplied is not asked for again, and one whose reapplying was interrupted
    goes on where it was.
    """
    entry = await _noted(call, id)
    if entry.result is not None:
        return entry.result
    if entry.fate == "discarded":
        raise CallFailed(errno.EEXIST, f"{id} was discarded: {entry.reason}")
    result = await _ask_again(call, entry.tail)
    await call.execute(Conclude(id=id, result=result))
    return result


async def _ask_again(call: JobCall, tail: Tail) -> Result:
    fold, taken = None, 0
    counts = _Counts()
    async for records in _pages(call, tail):
        fold = fold or await call.controller.aside.fold(records[0])
        asked: list[tuple[int, Command]] = []
        for record in records:
            found = fold.take(record)
            if found is not None:
                asked.append((record.seq, found))
        counts.not_reapplicable = fold.without_command
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            outcomes = await call.execute_each([(_request_id(tail, str(seq)), asked_for) for seq, asked_for in batch])
            counts.add([seq for seq, _ in batch], outcomes)
        taken += len(records)
        call.progress(100 * taken / tail.n, f"{taken} of {tail.n} events")
    return counts.result()


class _Counts:
    """What became of the events so far."""

    def __init__(self) -> None:
        self.applied = self.unchanged = self.refused = self.not_reapplicable = 0
        self.refusals: list[Refusal] = []

    def add(self, seqs: Sequence[int], outcomes: Sequence[int | MiddlewareError]) -> None:
        for seq, outcome in zip(seqs, outcomes, strict=True):
            if isinstance(outcome, MiddlewareError):
                self.refused += 1
                if len(self.refusals) < quarantine.REFUSALS_LIMIT:
                    self.refusals.append(Refusal(seq, str(outcome)[: quarantine.REASON_LIMIT]))
            elif outcome:
                self.applied += 1
            else:
                self.unchanged += 1

    def result(self) -> Result:
        return Result(
            applied=self.applied,
            unchanged=self.unchanged,
            refused=self.refused,
            not_reapplicable=self.not_reapplicable,
            refusals=tuple(self.refusals),
        )


@command("failover.quarantine.discard", roles=("FAILOVER_WRITE",))
async def discard(call: Call, id: str, reason: str) -> None:  # noqa: A002
    """Give a tail up: its file is removed when that is committed. What was cut, when and its digest stay known."""
    await _noted(call, id)
    await call.execute(Discard(id=id, reason=reason))


async def note(call: DutyCall) -> None:
    """Have both controllers know of every tail that either has cut."""
    if call.controller.facts().log_format < quarantine.LOG_FORMAT:
        return
    for tail in await _unnoted(call):
        await call.execute(Note(tail=tail), request_id=_request_id(tail, "noted"))


METHODS = (list_tails, diff, reapply, discard)
PEER_METHODS = (own_digests, own_tail, own_page)
DUTIES = (Duty(name="note quarantine", run=note),)
