"""What a handler is given: who asks, what the configuration is, and the way to change it.

A write that comes again under its request id is run again, but looks at the states that the first one saw: before its
command what they were when that was decided, after it what they were when it was committed. So it says what the first
said, whatever has changed since; the engine answers its command with the first one's outcome. What it asks of other
plugins, and of this controller, is of this moment.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

import msgspec

from middlewared import plugin, ports
from middlewared.engine.bus import Bus
from middlewared.engine.jobs import Job, Jobs
from middlewared.engine.registry import Registry
from middlewared.kernel.audit import NoteKind
from middlewared.kernel.errors import EHAUNAVAILABLE, CallFailed, MiddlewareError, OutcomeUnknown, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.outcomes import Outcome
from middlewared.plugin import Command, Controller, Method, Noun
from middlewared.ports import Host
from middlewared.protocol import rpc
from middlewared.protocol.session import Session

S = TypeVar("S", bound=msgspec.Struct)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Committed(msgspec.Struct, frozen=True):
    """A command's last record: its place in the log, and on how many controllers it is durable: `pair` or `single`.

    events: how many records it made. again: it is the outcome of an earlier command with the same request id.
    """

    seq: int
    term: int
    durability: str
    events: int = 1
    again: bool = False


class Engine(Protocol):
    """What calls need of the only writer."""

    def is_owner(self) -> bool:
        """Whether this controller holds the term."""
        ...

    def gate_write(self) -> None:
        """Raises NotActive, NoRole or ConfigBehind where this controller may not write."""
        ...

    def state(self, noun: Noun[S]) -> S: ...

    async def execute(
        self, command: Command, *, actor: str, origin: str, request_id: str, method: str = ""
    ) -> Committed:
        """Decide, make durable, commit, apply; or answer what an earlier copy of the command came to.

        method: the one that asks.
        Raises Refused, CallFailed, OutcomeUnknown.
        """
        ...

    async def outcome_of(self, *, actor: str, request_id: str) -> Outcome | None:
        """The committed outcome of a request; None where there is none, or none yet."""
        ...

    async def state_at(self, noun: Noun[S], seq: int) -> S:
        """The state of a noun after record `seq`. Raises CallFailed."""
        ...

    async def wait_durable(self, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        """See Durable.wait."""
        ...

    async def state_digest(self) -> tuple[int, str]: ...


class Trail(Protocol):
    """Where is noted what leaves no event in the log: engine.audit.AuditTrail."""

    def note(
        self,
        kind: NoteKind,
        *,
        who: str = "",
        origin: str = "",
        method: str = "",
        request_id: str = "",
        errno: int = 0,
        reason: str = "",
    ) -> None: ...


class Around(Protocol):
    """Where calls are carried out; engine.dispatch has the rest of it."""

    registry: Registry
    engine: Engine
    node: Node
    controller: Controller
    host: Host
    bus: Bus
    jobs: Jobs
    trail: Trail

    def download(self, asked: Context, method: str, arguments: Sequence[object], filename: str) -> tuple[int, str]: ...

    new_id: Callable[[], str]


def is_uuid(id_: rpc.Id) -> TypeGuard[str]:
    return isinstance(id_, str) and _UUID.fullmatch(id_) is not None


class Context:
    """What a handler is given: plugin.Call."""

    __slots__ = (
        "_around",
        "_executed",
        "_past",
        "_request_id",
        "again",
        "call_id",
        "client",
        "committed",
        "controller",
        "host",
        "jobs",
        "method",
        "node",
        "session",
    )

    def __init__(self, around: Around, session: Session, method: Method, call_id: rpc.Id) -> None:
        self._around = around
        self.client = session
        self.session: plugin.SessionView = session
        self.method = method
        self.call_id = call_id
        self._request_id: str | None = None
        self._executed = 0
        self._past: dict[str, Any] = {}
        self.node = around.node
        self.controller = around.controller
        self.host = around.host
        self.jobs: ports.Jobs = around.jobs
        self.committed: Committed | None = None
        self.again = False

    @property
    def request_id(self) -> str:
        if self._request_id is None:
            self._request_id = self.call_id if is_uuid(self.call_id) else self._around.new_id()
        return self._request_id

    @property
    def actor(self) -> str:
        """Who is written into the log as the author."""
        return self.session.username or self.session.origin

    def run(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Coroutine[Any, Any, object]:
        """The handler at work on this call."""
        view: plugin.Call = self
        running = self.method.handler(view, *args, **kwargs)
        return self._as_before(running) if self.method.kind == "write" and is_uuid(self.call_id) else running

    async def _as_before(self, running: Coroutine[Any, Any, object]) -> object:
        """The handler of a call that perhaps was carried out before."""
        try:
            known = await self._around.engine.outcome_of(actor=self.actor, request_id=self.request_id)
            if known is not None:
                self.again = True
                await self._look_back(known.first - 1)
        except BaseException:
            running.close()
            raise
        return await running

    async def _look_back(self, seq: int) -> None:
        """From now on the states of this plugin's nouns are those after record `seq`."""
        registry, engine = self._around.registry, self._around.engine
        try:
            for noun in registry.nouns_of[registry.owners[self.method.name]]:
                self._past[noun.name] = await engine.state_at(noun, seq)
        except CallFailed as e:
            if e.errno != errno.ETIMEDOUT:
                raise
            raise OutcomeUnknown(self.request_id) from e

    def state(self, noun: Noun[S]) -> S:
        past: S | None = self._past.get(noun.name)
        return past if past is not None else self._around.engine.state(noun)

    async def query(self, method: str, *args: object) -> object:
        registry = self._around.registry
        plugin = registry.owners[self.method.name]
        if method not in registry.needs[plugin]:
            raise CallFailed(errno.EINVAL, f"Plugin {plugin} queries {method} and does not name it in its needs")
        target = registry.methods[method]
        positional, named = registry.parameters[method].bind(args, {})
        inner = Context(self._around, self.client, target, self.call_id)
        return await target.handler(inner, *positional, **named)

    def note(self, kind: NoteKind, *, who: str = "", errno: int = 0, reason: str = "") -> None:
        self._around.trail.note(
            kind,
            who=who or self.session.username or "",
            origin=self.session.origin,
            method=self.method.name,
            request_id=str(self.call_id) if is_uuid(self.call_id) else "",
            errno=errno,
            reason=reason,
        )

    async def execute(self, command: Command) -> None:
        # A handler that executes several commands has each of them remembered under an id of its own.
        self._executed += 1
        request_id = self.request_id if self._executed == 1 else f"{self.request_id}/{self._executed}"
        self.committed = await self._execute(command, request_id)
        self._past.clear()
        if self.committed.again:
            await self._look_back(self.committed.seq)

    async def execute_each(self, commands: Sequence[tuple[str, Command]]) -> list[int | MiddlewareError]:
        # Tasks begin in the order in which they are made, so the commands stand in the engine's queue in this order.
        outcomes = await asyncio.gather(
            *(self._execute(command, request_id) for request_id, command in commands), return_exceptions=True
        )
        told: list[int | MiddlewareError] = []
        for outcome in outcomes:
            if isinstance(outcome, Committed):
                self.committed = outcome
                told.append(outcome.events)
            elif isinstance(outcome, MiddlewareError) and not _ends_all(outcome):
                told.append(outcome)
            else:
                raise outcome
        return told

    async def _execute(self, command: Command, request_id: str) -> Committed:
        if self.method.kind != "write":
            raise CallFailed(errno.EPERM, f"{self.method.name} is declared as {self.method.kind} and may not write")
        return await self._around.engine.execute(
            command,
            actor=self.actor,
            origin=self.session.origin,
            request_id=request_id,
            method=self.method.name,
        )

    async def subscribe(
        self, name: str, *, addressed: bool = False, since: int | None = None, term: int | None = None
    ) -> plugin.Subscribed:
        bus = self._around.bus
        made = await bus.subscribe(self.client, name, addressed=addressed, since=since, term=term)
        return plugin.Subscribed(id=made.id, seq=made.at.seq, term=made.at.term)

    async def wait_durable(self, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        return await self._around.engine.wait_durable(seq, level, timeout_s)

    async def state_digest(self) -> tuple[int, str]:
        return await self._around.engine.state_digest()

    def download(self, method: str, arguments: Sequence[object], filename: str) -> tuple[int, str]:
        return self._around.download(self, method, arguments, filename)

    def methods(self) -> Sequence[Method]:
        return tuple(self._around.registry.methods.values())

    def alert_sources(self) -> Sequence[plugin.AlertSource]:
        return self._around.registry.alert_sources

    def event_names(self) -> Sequence[str]:
        return self._around.registry.collections

    def announcements(self) -> Sequence[plugin.Announcement]:
        return self._around.registry.announcements


class JobContext(Context):
    """What the handler of a job is given: plugin.JobCall. Who asked is who it was when the job began."""

    __slots__ = ("progress",)

    def __init__(self, around: Around, asked: Context, job: Job) -> None:
        client = asked.client
        author = Session(id=client.id, origin=client.origin, local_root=client.local_root, new_id=around.new_id)
        if client.username is not None:
            author.log_in(client.username, client.roles)
        super().__init__(around, author, asked.method, asked.call_id)
        self.progress = job.progress

    async def run(self, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """The handler at work. Faults that it finds are named as those of any call."""
        try:
            return await super().run(args, kwargs)
        except Refused as e:
            raise under(self.method.takes, e) from None


_NOT_NOW = {errno.EROFS, errno.EBUSY, errno.EIO, errno.ENOSPC, errno.EPERM, errno.ETIMEDOUT, EHAUNAVAILABLE}


def _ends_all(error: MiddlewareError) -> bool:
    """Whether it says that nothing can be written at this moment, not that this command is wrong."""
    return isinstance(error, CallFailed) and error.errno in _NOT_NOW


def under(takes: str | None, refused: Refused) -> Refused:
    """The same faults, each named as a part of the object that the method takes."""
    if takes is None:
        return refused
    return Refused(
        *(
            (field if field == takes or field.startswith(takes + ".") else f"{takes}.{field}", message, number)
            for field, message, number in refused.problems
        )
    )
