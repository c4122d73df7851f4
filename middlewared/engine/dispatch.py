"""One call's way from the text to the text: who asks, may he, may this controller, then the handler.

The order of the questions, the first that fails answers:

    1. the text         not JSON, no request, too long, too deep      protocol.rpc_server
    2. the method       is there none of that name?                   UnknownMethod
    3. the client       not logged in, and the method is not public   NotAuthenticated
    4. its roles        none of those that the method wants           NotAuthorized
    5. this controller  a write where nothing may be written          NotActive, NoRole, ConfigBehind
    6. the arguments    every fault at once                           Refused
    7. the handler      decides; Refused again, or CallFailed

A write that comes again under its request id is run again, but looks at the states that the first one saw: before its
command what they were when that was decided, after it what they were when it was committed. So it says what the first
said, whatever has changed since; the engine answers its command with the first one's outcome.

A handler that does not wait is run without a task: its coroutine is stepped once, and only when it suspends does the
caller learn (`suspended`) that it must find somebody else to read on. From then on a deadline holds.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import types
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeGuard, TypeVar

import msgspec

from middlewared import plugin, ports
from middlewared.engine.bus import Bus
from middlewared.engine.jobs import Asked, Job, Jobs
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import (
    EHAUNAVAILABLE,
    CallFailed,
    MiddlewareError,
    NotAuthenticated,
    NotAuthorized,
    OutcomeUnknown,
    Refused,
    TooManyCalls,
)
from middlewared.kernel.facts import Node
from middlewared.kernel.outcomes import Outcome
from middlewared.plugin import Command, Controller, Method, Noun
from middlewared.ports import Host
from middlewared.protocol import rpc
from middlewared.protocol.rpc_server import Call, Limits, Table
from middlewared.protocol.session import CALLS_LIMIT, Session

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

CALL_DEADLINE_S = 60.0
LIMITS = Limits(size=1024 * 1024)
LIMITS_BEFORE_LOGIN = Limits(size=64 * 1024, batch=20)
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

    async def state_digest(self) -> tuple[int, str]: ...


class Dispatcher:
    """Answers texts.

    node, controller, host: what handlers are given of this controller. bus: tells clients of changes. jobs: calls that
    take long.
    new_id: makes request ids. deadline_s: how long a call that waits may take.
    """

    def __init__(
        self,
        registry: Registry,
        engine: Engine,
        *,
        node: Node,
        controller: Controller,
        host: Host,
        bus: Bus,
        jobs: Jobs,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> None:
        self.registry = registry
        self.engine = engine
        self.node = node
        self.controller = controller
        self.host = host
        self.bus = bus
        self.jobs = jobs
        self.new_id = new_id
        self._deadline_s = deadline_s
        self._table = Table(registry.methods)

    async def answer(self, session: Session, text: bytes | str, suspended: Callable[[], None]) -> bytes | None:
        """Carry out what `text` asks for, and return the text to send; None: nobody waits for an answer.

        suspended: called when a call begins to wait, so that the next text can be read meanwhile; for a batch, whose
        calls are carried out one after the other, perhaps more than once. Never raises for what a client sent.
        """
        frame = self._table.read(text, LIMITS if session.username is not None else LIMITS_BEFORE_LOGIN)
        return frame.answer([await self._outcome(session, call, suspended) for call in frame.calls])

    async def ask(self, method: str) -> object:
        """The answer of a query without parameters, as this controller itself asks it. Raises what the query raises."""
        nobody = Session(id="", origin="", local_root=True, new_id=self.new_id)
        return await self.registry.methods[method].handler(
            Context(self, nobody, self.registry.methods[method], self.new_id())
        )

    async def _outcome(self, session: Session, call: Call, suspended: Callable[[], None]) -> rpc.Outcome:
        method = self.registry.methods[call.method]
        context = Context(self, session, method, call.id)
        try:
            result = await self._carry_out(context, call, suspended)
        except Refused as e:
            return rpc.error_of(_under(method.takes, e))
        except MiddlewareError as e:
            return rpc.error_of(e)
        except Exception:
            log.exception("%s by %s failed (request %s)", method.name, context.actor, context.request_id)
            return rpc.internal_error(f"see this controller's log for request {context.request_id}")
        if context.committed is not None and session.options["durability"]:
            done = context.committed
            return rpc.Success(result, rpc.Meta(done.seq, done.term, done.durability))
        return rpc.Success(result)

    async def _carry_out(self, context: Context, call: Call, suspended: Callable[[], None]) -> object:
        method, session = context.method, context.client
        _authorise(method, session)
        if method.kind == "write":
            self.engine.gate_write()
        args, kwargs = self.registry.parameters[method.name].bind(call.args, call.kwargs)
        if session.calls_waiting >= CALLS_LIMIT:
            raise TooManyCalls(f"{CALLS_LIMIT} calls of this client are under way")
        if method.job:
            return await self._as_job(context, args, kwargs, suspended)
        running = context.run(args, kwargs)
        try:
            first = running.send(None)
        except StopIteration as done:
            return done.value
        suspended()
        return await self._wait(context, running, first)

    async def _as_job(
        self, context: Context, args: list[object], kwargs: dict[str, object], suspended: Callable[[], None]
    ) -> object:
        """Begin a job. The answer is its number, or its outcome, however long that takes: as the client has chosen."""
        client = context.client
        started = self.begin(context, args, kwargs)
        if client.options["legacy_jobs"]:
            return started.id
        suspended()
        client.calls_waiting += 1
        try:
            return await asyncio.shield(started.outcome)
        finally:
            client.calls_waiting -= 1

    def begin(self, context: Context, args: Sequence[object], kwargs: Mapping[str, object]) -> Job:
        """Begin the job that a call asks for; it goes on when the call's client goes. Raises CallFailed."""
        asked = Asked(
            method=context.method.name,
            arguments=self.registry.parameters[context.method.name].without_secrets(args, kwargs),
            username=context.actor,
            origin=context.session.origin,
            message_id="" if context.call_id is None else str(context.call_id),
            abortable=context.method.abortable,
        )
        return self.jobs.start(asked, lambda job: JobContext(self, context, job).run(args, kwargs))

    async def _wait(self, context: Context, running: Coroutine[Any, Any, object], first: object) -> object:
        context.client.calls_waiting += 1
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                return await _resume(running, first)
        except TimeoutError:
            if not deadline.expired():
                raise
            if context.method.kind == "write":
                raise OutcomeUnknown(context.request_id) from None
            reason = f"{context.method.name} did not answer within {self._deadline_s:g} s"
            raise CallFailed(errno.ETIMEDOUT, reason) from None
        finally:
            context.client.calls_waiting -= 1

    def request_id(self, id_: rpc.Id) -> str:
        """The id under which a write is remembered: that of the call if it is a UUID, else a new one."""
        return id_ if is_uuid(id_) else self.new_id()


def is_uuid(id_: rpc.Id) -> TypeGuard[str]:
    return isinstance(id_, str) and _UUID.fullmatch(id_) is not None


class Context:
    """What a handler is given: plugin.Call."""

    __slots__ = (
        "_dispatcher",
        "_executed",
        "_past",
        "_request_id",
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

    def __init__(self, dispatcher: Dispatcher, session: Session, method: Method, call_id: rpc.Id) -> None:
        self._dispatcher = dispatcher
        self.client = session
        self.session: plugin.SessionView = session
        self.method = method
        self.call_id = call_id
        self._request_id: str | None = None
        self._executed = 0
        self._past: dict[str, Any] = {}
        self.node = dispatcher.node
        self.controller = dispatcher.controller
        self.host = dispatcher.host
        self.jobs: ports.Jobs = dispatcher.jobs
        self.committed: Committed | None = None

    @property
    def request_id(self) -> str:
        if self._request_id is None:
            self._request_id = self._dispatcher.request_id(self.call_id)
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
            known = await self._dispatcher.engine.outcome_of(actor=self.actor, request_id=self.request_id)
            if known is not None:
                await self._look_back(known.first - 1)
        except BaseException:
            running.close()
            raise
        return await running

    async def _look_back(self, seq: int) -> None:
        """From now on the states of this plugin's nouns are those after record `seq`."""
        registry, engine = self._dispatcher.registry, self._dispatcher.engine
        try:
            for noun in registry.nouns_of[registry.owners[self.method.name]]:
                self._past[noun.name] = await engine.state_at(noun, seq)
        except CallFailed as e:
            if e.errno != errno.ETIMEDOUT:
                raise
            raise OutcomeUnknown(self.request_id) from e

    def state(self, noun: Noun[S]) -> S:
        past: S | None = self._past.get(noun.name)
        return past if past is not None else self._dispatcher.engine.state(noun)

    async def query(self, method: str, *args: object) -> object:
        registry = self._dispatcher.registry
        plugin = registry.owners[self.method.name]
        if method not in registry.needs[plugin]:
            raise CallFailed(errno.EINVAL, f"Plugin {plugin} queries {method} and does not name it in its needs")
        target = registry.methods[method]
        positional, named = registry.parameters[method].bind(args, {})
        inner = Context(self._dispatcher, self.client, target, self.call_id)
        return await target.handler(inner, *positional, **named)

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
        return await self._dispatcher.engine.execute(
            command,
            actor=self.actor,
            origin=self.session.origin,
            request_id=request_id,
            method=self.method.name,
        )

    async def subscribe(
        self, name: str, *, addressed: bool = False, since: int | None = None, term: int | None = None
    ) -> plugin.Subscribed:
        bus = self._dispatcher.bus
        made = await bus.subscribe(self.client, name, addressed=addressed, since=since, term=term)
        return plugin.Subscribed(id=made.id, seq=made.at.seq, term=made.at.term)

    async def state_digest(self) -> tuple[int, str]:
        return await self._dispatcher.engine.state_digest()

    def methods(self) -> Sequence[Method]:
        return tuple(self._dispatcher.registry.methods.values())

    def alert_sources(self) -> Sequence[plugin.AlertSource]:
        return self._dispatcher.registry.alert_sources

    def event_names(self) -> Sequence[str]:
        return self._dispatcher.registry.collections

    def announcements(self) -> Sequence[plugin.Announcement]:
        return self._dispatcher.registry.announcements


class JobContext(Context):
    """What the handler of a job is given: plugin.JobCall. Who asked is who it was when the job began."""

    __slots__ = ("progress",)

    def __init__(self, dispatcher: Dispatcher, asked: Context, job: Job) -> None:
        client = asked.client
        author = Session(id=client.id, origin=client.origin, local_root=client.local_root, new_id=dispatcher.new_id)
        if client.username is not None:
            author.log_in(client.username, client.roles)
        super().__init__(dispatcher, author, asked.method, asked.call_id)
        self.progress = job.progress

    async def run(self, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """The handler at work. Faults that it finds are named as those of any call."""
        view: plugin.JobCall = self
        try:
            return await self.method.handler(view, *args, **kwargs)
        except Refused as e:
            raise _under(self.method.takes, e) from None


def _authorise(method: Method, session: Session) -> None:
    if session.username is None and not method.public:
        raise NotAuthenticated
    if method.local_only and not session.local_root:
        raise NotAuthorized(f"{method.name} is for the unix socket, as root")
    if not method.public and not session.may(method.roles):
        raise NotAuthorized(f"{method.name} needs one of the roles {', '.join(method.roles)}")


_NOT_NOW = {errno.EROFS, errno.EBUSY, errno.EIO, errno.ENOSPC, errno.EPERM, errno.ETIMEDOUT, EHAUNAVAILABLE}


def _ends_all(error: MiddlewareError) -> bool:
    """Whether it says that nothing can be written at this moment, not that this command is wrong."""
    return isinstance(error, CallFailed) and error.errno in _NOT_NOW


def _under(takes: str | None, refused: Refused) -> Refused:
    """The same faults, each named as a part of the object that the method takes."""
    if takes is None:
        return refused
    return Refused(
        *(
            (field if field == takes or field.startswith(takes + ".") else f"{takes}.{field}", message, number)
            for field, message, number in refused.problems
        )
    )


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, object], first: object) -> Generator[object, object, object]:
    """Go on with a coroutine that was stepped by hand and then asked to wait for `first`."""
    asked = first
    while True:
        try:
            answer = yield asked
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as e:
            step = partial(coroutine.throw, e)
        else:
            step = partial(coroutine.send, answer)
        try:
            asked = step()
        except StopIteration as done:
            return done.value
