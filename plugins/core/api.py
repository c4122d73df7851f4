"""`core`: is anyone there, how shall I be answered, tell me of changes, what can I call."""

from __future__ import annotations

import errno
import inspect
from typing import Literal, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from middlewared.kernel.errors import NotAuthenticated, Refused
from middlewared.plugin import Call, Method, Subscribed, local, query

PUBLIC_EVENTS = frozenset({"failover.status", "failover.disabled.reasons"})
"""What the sign-in page shows before anybody has signed in."""

WAIT_DURABLE_MAX_S = 50.0
"""Below the deadline of a call."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this connection is answered; what is left out stays as it is.

    legacy_jobs: a job's call returns its number at once. private_methods: kept for clients that send it, no effect.
    py_exceptions: always false, no pickled object is ever sent. durability: replies to writes carry `meta`.
    """

    legacy_jobs: bool | UnsetType = UNSET
    private_methods: bool | UnsetType = UNSET
    py_exceptions: bool | UnsetType = UNSET
    durability: bool | UnsetType = UNSET


@local("core.ping", public=True)
async def ping(call: Call) -> str:
    """Is anyone there? Answers "pong"."""
    return "pong"


@local("core.set_options", public=True)
async def set_options(call: Call, options: Options) -> dict[str, bool]:
    """Set options of this connection; returns all of them, and what a client must know of this build.

    remembers_requests: a write that comes again under its id is carried out once, and answered as it was.
    """
    given: dict[str, bool] = msgspec.to_builtins(options)
    call.session.options.update({**given, "py_exceptions": False})
    return {**call.session.options, "remembers_requests": True}


class Durability(msgspec.Struct, frozen=True, kw_only=True):
    """Where record `seq` stands: its term, and whether it is durable on both controllers (pair) or one (single)."""

    seq: int
    term: int
    durability: str


@local("core.wait_durable")
async def wait_durable(
    call: Call, seq: int, level: Literal["pair", "single"] = "pair", timeout_s: float = 10.0
) -> Durability:
    """Answer when record `seq` of the log (`meta.seq` of a write) is durable at `level`, within `timeout_s` (0-50).

    A standby answers by what it was told.
    """
    problems = []
    if seq < 1:
        problems.append(("seq", "records are numbered from 1"))
    if not 0 <= timeout_s <= WAIT_DURABLE_MAX_S:
        problems.append(("timeout_s", f"must be 0-{WAIT_DURABLE_MAX_S:g}"))
    if problems:
        raise Refused(*problems)
    term, durability = await call.wait_durable(seq, level, timeout_s)
    return Durability(seq=seq, term=term, durability=durability)


class SubscribeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a subscription begins. With this object, even an empty one, its notifications carry its id.

    since: the seq of a record: everything after it is told first. term: of that record, as a notification told it; the
    call is refused when another record stands there now. position: answer {id, seq, term}, where it begins.
    """

    since: int | UnsetType = UNSET
    term: int | UnsetType = UNSET
    position: bool = False


@local("core.subscribe", public=True)
async def subscribe(call: Call, name: str, options: SubscribeOptions | None = None) -> str | Subscribed:
    """Be told of every change of a collection, or of all with "*". Returns the id with which to unsubscribe."""
    if call.session.username is None and name not in PUBLIC_EVENTS:
        raise NotAuthenticated
    if name != "*" and name not in call.event_names():
        raise Refused(("name", f"there is no collection {name}", errno.ENOENT))
    if options is None:
        return (await call.subscribe(name)).id
    made = await call.subscribe(
        name,
        addressed=True,
        since=None if options.since is UNSET else options.since,
        term=None if options.term is UNSET else options.term,
    )
    return made if options.position else made.id


@local("core.unsubscribe", public=True)
async def unsubscribe(call: Call, id: str) -> None:  # noqa: A002
    """End a subscription of this connection."""
    if not call.session.unsubscribe(id):
        raise Refused(("id", "there is no such subscription", errno.ENOENT))


@query("core.get_methods")
async def get_methods(call: Call) -> dict[str, object]:
    """Every method by name: what it does, who may call it, and the JSON Schema of each parameter."""
    return {
        method.name: {
            "name": method.name,
            "kind": method.kind,
            "job": method.job,
            "roles": list(method.roles),
            "public": method.public,
            "local_only": method.local_only,
            "description": method.description,
            "params": _parameters(method),
        }
        for method in sorted(call.methods(), key=lambda m: m.name)
    }


@query("core.get_events")
async def get_events(call: Call) -> dict[str, object]:
    """Every collection that can be subscribed to; `query` and `field` where it is the answer of a query."""
    asked = {announced.collection: announced for announced in call.announcements()}
    return {
        name: {
            "public": name in PUBLIC_EVENTS,
            "query": asked[name].query if name in asked else None,
            "field": asked[name].field if name in asked else None,
        }
        for name in sorted(call.event_names())
    }


def _parameters(method: Method) -> list[dict[str, object]]:
    hints = get_type_hints(method.handler)
    _, *declared = inspect.signature(method.handler).parameters.values()
    return [
        {
            "name": p.name,
            "required": p.default is p.empty,
            "schema": msgspec.json.schema(hints[p.name], schema_hook=lambda _: {"description": "any value"}),
        }
        for p in declared
    ]


METHODS = (ping, set_options, wait_durable, subscribe, unsubscribe, get_methods, get_events)
