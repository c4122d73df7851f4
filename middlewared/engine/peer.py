"""The other controller, as far as small questions go: drives protocol.peer_calls, and answers what it asks.

Every question that is answered here has a task of its own, so that one which waits delays neither the next nor the
records on the same line.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from middlewared import ports
from middlewared.engine.context import Context
from middlewared.engine.dispatch import Dispatcher
from middlewared.kernel.errors import CallFailed, MiddlewareError, Refused
from middlewared.plugin import Noun, PeerCall
from middlewared.ports import Clock
from middlewared.protocol import peer_calls
from middlewared.protocol.peer_calls import TIMEOUT_LIMIT_S, TIMEOUT_S, Answer, Ask, Fault
from middlewared.protocol.session import Session

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

Send = Callable[[Ask | Answer], None]


class Question:
    """What a handler is given: plugin.PeerCall."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.node = dispatcher.node
        self.controller = dispatcher.controller
        self.host = dispatcher.host
        self.jobs: ports.Jobs = dispatcher.jobs

    def state(self, noun: Noun[S]) -> S:
        return self._dispatcher.engine.state(noun)

    def start_job(self, method: str, arguments: Sequence[object], username: str) -> int:
        registry = self._dispatcher.registry
        wanted = registry.methods.get(method)
        if wanted is None or not wanted.job or wanted.kind == "write":
            raise CallFailed(errno.EOPNOTSUPP, f"Controller {self.node} runs a version that has no job {method}")
        args, kwargs = registry.parameters[method].bind(arguments, {})
        asker = Session(id="", origin="peer", local_root=False, new_id=self._dispatcher.new_id)
        asker.log_in(username, frozenset())
        return self._dispatcher.begin(Context(self._dispatcher, asker, wanted, None), args, kwargs).id


class Questions:
    """Finds the answer to a question of the other controller among what the plugins declare."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._registry = dispatcher.registry
        self._call = Question(dispatcher)

    async def __call__(self, method: str, params: Sequence[object]) -> object:
        """Raises CallFailed and what the handler raises."""
        found = self._registry.peer.get(method)
        if found is None:
            reason = f"Controller {self._call.node} runs a version that does not know the question {method}"
            raise CallFailed(errno.EOPNOTSUPP, reason)
        question, parameters = found
        args, _ = parameters.bind(params, {})
        view: PeerCall = self._call
        return await question.handler(view, *args)


class Peer:
    """Asks the other controller, and has its questions answered. To be used from the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._machine = peer_calls.PeerCalls()
        self._send: Send | None = None
        self._answer: Callable[[str, Sequence[object]], Awaitable[object]] | None = None
        self._last_key = 0
        self._waiting: dict[int, asyncio.Future[object | Fault]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def answer_by(self, answer: Callable[[str, Sequence[object]], Awaitable[object]]) -> None:
        """Who answers: given later, because it knows this controller, which asks through here."""
        self._answer = answer

    async def ask(self, method: str, *params: object, timeout_s: float = TIMEOUT_S) -> object:
        """Ask, and wait for the answer. Raises CallFailed."""
        self._last_key += 1
        key = self._last_key
        outcome = self._waiting[key] = asyncio.get_running_loop().create_future()
        plain = tuple(msgspec.to_builtins(params))
        self._feed(peer_calls.Wanted(key, method, plain, min(timeout_s, TIMEOUT_LIMIT_S)))
        try:
            answer = await outcome
        finally:
            if self._waiting.pop(key, None) is not None:
                self._feed(peer_calls.Unwanted(key))
        if isinstance(answer, Fault):
            raise peer_calls.failed(answer)
        return answer

    # --- what the line tells ---

    def line_up(self, send: Send, features: frozenset[str]) -> None:
        """The other controller said who it is, on a line that `send` writes to."""
        self._send = send
        self._feed(peer_calls.Up(features))

    def line_down(self, send: Send) -> None:
        """That line is closed; an older one than the present is nobody's loss."""
        if self._send == send:
            self._send = None
            self._feed(peer_calls.Down())

    def got(self, frame: Ask | Answer) -> None:
        self._feed(peer_calls.Got(frame))

    # --- the machine ---

    def _feed(self, message: peer_calls.Message) -> None:
        for action in self._machine.receive(message, self._clock.boottime()):
            self._perform(action)
        self._arm()

    def _perform(self, action: peer_calls.Action) -> None:
        match action:
            case peer_calls.Send():
                if self._send is not None:
                    self._send(action.frame)
            case peer_calls.Carry():
                self._tasks[action.id] = asyncio.get_running_loop().create_task(self._carry(action))
            case peer_calls.Stop():
                task = self._tasks.pop(action.id, None)
                if task is not None:
                    task.cancel()
            case peer_calls.Ended():
                waiting = self._waiting.pop(action.key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(action.outcome)

    async def _carry(self, question: peer_calls.Carry) -> None:
        outcome = await self._outcome(question)
        self._tasks.pop(question.id, None)
        self._feed(peer_calls.Done(question.id, outcome))

    async def _outcome(self, question: peer_calls.Carry) -> msgspec.Raw | Fault:
        assert self._answer is not None
        try:
            return msgspec.Raw(msgspec.msgpack.encode(await self._answer(question.method, question.params)))
        except Refused as e:
            return Fault(errno.EINVAL, str(e))
        except CallFailed as e:
            return Fault(e.errno, e.reason)
        except MiddlewareError as e:
            return Fault(errno.EIO, str(e))
        except Exception:
            log.exception("event=peer_call_failed method=%s", question.method)
            return Fault(errno.EFAULT, f"The other controller failed at {question.method}; its log says why")

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._machine.deadline()
        if due is not None:
            delay = max(0.0, due - self._clock.boottime()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self._feed, peer_calls.Tick())
