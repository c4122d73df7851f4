"""The methods of `audit`.

Three sources, newest first: the log, which both controllers hold, and the notes of each, of which one's come by a
question to the other controller. They are merged by the time of day at which each was written; a page ends where its
limit is reached, and its cursor says how far each source was read.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from heapq import merge
from itertools import islice

import msgspec

from middlewared.kernel.audit import Event, Filter, Kept, Kind
from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import Node, other
from middlewared.plugin import Call, PeerCall, peer, query

LIMIT = 1000
ASK_S = 5.0
Date = dict[str, int]
"""{"$date": ms since 1970, UTC}"""


class Cursor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"a": "A", "b": "B"}):
    """Below which place each source goes on; null: from its newest."""

    log: int | None = None
    a: int | None = None
    b: int | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for; what is left out may be anything.

    since, until: {"$date": ms} or ms. node: where it was written. kinds: write (an event of the log), login,
    login_failed, logout, refused, read (on a standby), job, lost. limit: entries of a page, 1000 at most. cursor: of
    the page before.
    """

    since: Date | int | None = None
    until: Date | int | None = None
    node: Node | None = None
    user: str | None = None
    method: str | None = None
    request_id: str | None = None
    kinds: list[Kind] | None = None
    limit: int = 100
    cursor: Cursor = Cursor()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    errno, reason: why it was refused; 0 and "" where it was not. times: how often within a second. seq, event, before,
    after: of a write; the fields that it changed, as they were and as they became, secrets hidden; null where `reason`
    says that they are not known.
    """

    at: Date
    node: Node
    kind: Kind
    user: str
    origin: str
    method: str
    request_id: str
    errno: int = 0
    reason: str = ""
    times: int = 1
    seq: int | None = None
    event: str | None = None
    before: dict[str, object] | None = None
    after: dict[str, object] | None = None


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A controller whose notes could not be had."""

    node: Node
    why: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first. cursor: for the page after it; null where there is none. missing: what is not in it."""

    entries: list[Entry]
    cursor: Cursor | None
    missing: list[Missing]


@query("audit.query", roles=("SYSTEM_AUDIT_READ",))
async def find(call: Call, query: Query = Query()) -> Page:  # noqa: B008
    """Who did what, on both controllers, newest first: every change of the configuration, logins, refusals, jobs."""
    wanted = _filter(query)
    sources: dict[str, list[tuple[int, int, Entry]]] = {"log": [], "a": [], "b": []}
    missing: list[Missing] = []
    if query.kinds is None or "write" in query.kinds:
        events = await call.controller.audit.events(wanted, query.cursor.log, query.limit + 1)
        sources["log"] = [(event.at_ns, event.seq, _of_event(event)) for event in events]
    if query.kinds is None or set(query.kinds) - {"write"}:
        for node in _nodes(call, query.node):
            before = query.cursor.a if node == "A" else query.cursor.b
            try:
                kept = await _rows(call, node, wanted, before, query.limit + 1)
            except CallFailed as e:
                missing.append(Missing(node=node, why=e.reason))
            else:
                sources[node.lower()] = [(row.note.at_ns, row.id, _of_note(node, row)) for row in kept]
    return _page(sources, query, missing)


@peer("audit.rows")
async def rows(call: PeerCall, wanted: Filter, before: int | None, limit: int) -> Sequence[Kept]:
    """The notes of this controller."""
    return await call.controller.audit.rows(wanted, before, limit)


def _filter(query: Query) -> Filter:
    if not 1 <= query.limit <= LIMIT:
        raise Refused(("query.limit", f"must be 1-{LIMIT}", errno.ERANGE))
    return Filter(
        since_ns=_ns("since", query.since),
        until_ns=_ns("until", query.until, to_its_end=True),
        node=query.node,
        user=query.user,
        method=query.method,
        request_id=query.request_id,
        kinds=tuple(query.kinds) if query.kinds is not None else None,
    )


def _ns(field: str, at: Date | int | None, *, to_its_end: bool = False) -> int | None:
    """A millisecond in ns: its beginning, or its end."""
    if isinstance(at, dict):
        if at.keys() != {"$date"}:
            raise Refused((f"query.{field}", 'must be {"$date": milliseconds}'))
        at = at["$date"]
    if at is None:
        return None
    if abs(at) > 2**43:
        raise Refused((f"query.{field}", "is no time in milliseconds", errno.ERANGE))
    return at * 1_000_000 + (999_999 if to_its_end else 0)


def _nodes(call: Call, wanted: Node | None) -> list[Node]:
    both = [call.node, other(call.node)] if call.controller.facts().paired else [call.node]
    return [node for node in both if wanted in (None, node)]


async def _rows(call: Call, node: Node, wanted: Filter, before: int | None, limit: int) -> Sequence[Kept]:
    if node == call.node:
        return await call.controller.audit.rows(wanted, before, limit)
    answer = await call.controller.ask_peer("audit.rows", msgspec.to_builtins(wanted), before, limit, timeout_s=ASK_S)
    return msgspec.convert(answer, list[Kept])


def _page(sources: dict[str, list[tuple[int, int, Entry]]], query: Query, missing: list[Missing]) -> Page:
    named = ([(-at_ns, name, place, entry) for at_ns, place, entry in found] for name, found in sources.items())
    # Each source is in the order of its own places; the time of day only says how they go between each other.
    merged = list(islice(merge(*named, key=lambda item: item[0]), query.limit + 1))
    shown = merged[: query.limit]
    after = {**msgspec.structs.asdict(query.cursor), **{name: place for _, name, place, _ in shown}}
    more = len(merged) > query.limit
    return Page(entries=[item[3] for item in shown], cursor=Cursor(**after) if more else None, missing=missing)


def _of_event(event: Event) -> Entry:
    return Entry(
        at={"$date": event.at_ns // 1_000_000},
        node=event.node,
        kind="write",
        user=event.who,
        origin=event.origin,
        method=event.method,
        request_id=event.request_id,
        reason=event.why,
        seq=event.seq,
        event=event.event,
        before=event.before,
        after=event.after,
    )


def _of_note(node: Node, row: Kept) -> Entry:
    note = row.note
    return Entry(
        at={"$date": note.at_ns // 1_000_000},
        node=node,
        kind=note.kind,
        user=note.who,
        origin=note.origin,
        method=note.method,
        request_id=note.request_id,
        errno=note.errno,
        reason=note.reason,
        times=note.times,
    )


METHODS = (find,)
PEER = (rows,)
