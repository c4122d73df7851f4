"""One call's way from the text to the text: who asks, may he, may this controller, then the handler.

The order of the questions, the first that fails answers:

    1. the text         not JSON, no request, too long, too deep      protocol.rpc_server
    2. the method       is there none of that name?                   UnknownMethod
    3. the client       not logged in, and the method is not public   NotAuthenticated
    4. its roles        none of those that the method wants           NotAuthorized
    5. this controller  a write where nothing may be written          NotActive, NoRole, ConfigBehind
    6. the arguments    every fault at once                           Refused
    7. the handler      decides; Refused again, or CallFailed

A handler that does not wait is run without a task: its coroutine is stepped once, and only when it suspends does the
caller learn (`suspended`) that it must find somebody else to read on. From then on a deadline holds.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import types
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from middlewared.engine.bus import Bus
from middlewared.engine.context import Context, Engine, JobContext, Trail, is_uuid, under
from middlewared.engine.downloads import Downloads
from middlewared.engine.jobs import Asked, Job, Jobs
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import (
    CallFailed,
    MiddlewareError,
    NotAuthenticated,
    NotAuthorized,
    OutcomeUnknown,
    Refused,
    TooManyCalls,
)
from middlewared.kernel.facts import Node
from middlewared.plugin import Controller, Method
from middlewared.ports import Host
from middlewared.protocol import rpc
from middlewared.protocol.rpc_server import Call, Limits, Table
from middlewared.protocol.session import CALLS_LIMIT, Session

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

CALL_DEADLINE_S = 60.0
LIMITS = Limits(size=1024 * 1024)
LIMITS_BEFORE_LOGIN = Limits(size=64 * 1024, batch=20)


class Dispatcher:
    """Answers texts.

    node, controller, host: what handlers are given of this controller. bus: tells clients of changes. jobs: calls that
    take long. trail: where is noted what leaves no event in the log.
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
        trail: Trail,
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
        self.trail = trail
        self.new_id = new_id
        self.downloads = Downloads(new_id)
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
            return rpc.error_of(under(method.takes, e))
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
        self._admit(context)
        if method.kind == "read" and not method.public and not self.engine.is_owner():
            context.note("read")
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

    def _admit(self, context: Context) -> None:
        """May this client call this method, on this controller, now? Raises CallFailed; a refusal is noted."""
        try:
            _authorise(context.method, context.client)
            if context.method.kind == "write":
                self.engine.gate_write()
        except CallFailed as e:
            context.note("refused", errno=e.errno, reason=e.reason)
            raise

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
        context.note("job")
        method = context.method
        asked = Asked(
            method=method.name,
            arguments=self.registry.parameters[method.name].without_secrets(args, kwargs),
            username=context.actor,
            origin=context.session.origin,
            message_id=context.call_id,
            unique=is_uuid(context.call_id),
            abortable=method.abortable,
            turn=method.name if method.turn is None else method.turn(*args, **kwargs),
        )
        return self.jobs.start(asked, lambda job: JobContext(self, context, job).run(args, kwargs))

    def download(self, asked: Context, method: str, arguments: Sequence[object], filename: str) -> tuple[int, str]:
        """Begin a job that gives a file, as the client that asked. Raises Refused, CallFailed."""
        wanted = self.registry.methods.get(method)
        if wanted is None or not wanted.gives_file:
            raise Refused(("method", f"{method} gives no file"))
        context = Context(self, asked.client, wanted, None)
        self._admit(context)
        args, kwargs = self.registry.parameters[method].bind(arguments, {})
        started = self.begin(context, args, kwargs)
        return started.id, self.downloads.offer(started, filename)

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


def _authorise(method: Method, session: Session) -> None:
    if session.username is None and not method.public:
        raise NotAuthenticated
    if method.local_only and not session.local_root:
        raise NotAuthorized(f"{method.name} is for the unix socket, as root")
    if not method.public and not session.may(method.roles):
        raise NotAuthorized(f"{method.name} needs one of the roles {', '.join(method.roles)}")


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
