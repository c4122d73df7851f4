"""An event loop on virtual time, one for each simulated process, and threads that belong to a simulated disk.

Production coroutines run on it unchanged: it is asyncio's interface without selector, sockets or signals. A process
that was killed never runs again, whatever still points to its loop; a frozen one finds on waking all that came while
it stood; a slow one does everything a while later.

The one file of this floor that touches asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, ParamSpec, TypeVar, cast

from middlewared.sim.timeline import Clock, Timeline

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines: the trace tells what happened."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class Loop:
    """One process. on_end(why): it died of an error of its own.

    It has of asyncio.AbstractEventLoop what tasks, futures, timeouts and executors ask for, and nothing else.
    """

    def __init__(self, timeline: Timeline, clock: Clock, on_end: Callable[[str], None]) -> None:
        self._timeline = timeline
        self._clock = clock
        self._on_end = on_end
        self._as_loop = cast(asyncio.AbstractEventLoop, self)
        self._ready: deque[asyncio.Handle] = deque()
        self._due = False
        self.dead = False
        self.frozen = False
        self.lag_s = 0.0
        self._left: set[asyncio.Task[Any]] = set()

    # --- the life of the process ---

    def kill(self) -> None:
        """It never runs again. What it had under way stays as it is until `bury`: no `finally` may run by chance."""
        self.dead = True
        self._left = asyncio.all_tasks(self._as_loop)
        self._ready.clear()

    def bury(self) -> None:
        """The world is over: let go of everything that never came to its end."""
        if not self.dead:
            self.kill()
        left, self._left = self._left, set()
        for task in left:
            with suppress(BaseException):
                self.enter(_coroutine_of(task).close)

    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        self._wake()

    def enter(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `work` as this process would: for what is done before anything is scheduled."""
        asyncio._set_running_loop(self._as_loop)
        try:
            return work(*args, **kwargs)
        finally:
            asyncio._set_running_loop(None)

    def _wake(self) -> None:
        if self._ready and not (self._due or self.frozen or self.dead):
            self._due = True
            self._timeline.after(self.lag_s, self._turn)

    def _turn(self) -> None:
        self._due = False
        if self.dead or self.frozen:
            return
        asyncio._set_running_loop(self._as_loop)
        try:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if self.dead:
                    return
        except SystemExit as e:
            self._on_end(str(e))
        finally:
            asyncio._set_running_loop(None)
        self._wake()

    # --- asyncio's interface ---

    def time(self) -> float:
        return self._clock.boottime()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._as_loop, context)
        if not self.dead:
            self._ready.append(handle)
            self._wake()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self._as_loop, context)
        if not self.dead:
            self._timeline.at(self._clock.true_time(when), self._ring, handle)
        return handle

    def _ring(self, handle: asyncio.TimerHandle) -> None:
        if not (self.dead or handle.cancelled()):
            self._ready.append(handle)
            self._wake()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._as_loop)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self._as_loop, name=name, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        assert executor is not None, "only the threads of a simulated disk"
        return asyncio.wrap_future(executor.submit(func, *args), loop=self._as_loop)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self._on_end(f"{context.get('message')}: {context.get('exception')!r}")

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def get_debug(self) -> bool:
        return False

    async def sleep(self, delay_s: float) -> None:
        """For what stands outside of production code and waits as a part of this process."""
        over = self.create_future()
        self.call_later(delay_s, over.set_result, None)
        await over

    def spawn(self, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin a task of this process; a dead one begins none."""
        self.call_soon(self._begin, work, args, kwargs)

    def _begin(self, work: Callable[..., Coroutine[Any, Any, None]], args: Any, kwargs: Any) -> None:
        self.create_task(work(*args, **kwargs))


class Dead(BaseException):
    """Asked for the time by what is left of a process."""


class MortalClock:
    """ports.Clock of one process: what runs on in the `finally` of a dead one gets no further than to look at it."""

    def __init__(self, clock: Clock, loop: Loop) -> None:
        self._clock = clock
        self._loop = loop

    def boottime(self) -> float:
        if self._loop.dead:
            raise Dead
        return self._clock.boottime()

    def wall_ns(self) -> int:
        return self._clock.wall_ns()


def _coroutine_of(task: asyncio.Task[Any]) -> Coroutine[Any, Any, Any]:
    coroutine = task.get_coro()
    assert isinstance(coroutine, Coroutine)
    return coroutine


class Thread(Executor):
    """One thing after the other; each takes as long as the disk needs, and takes effect at its end, whole.

    delay_s: how long the next one takes.
    """

    def __init__(self, timeline: Timeline, loop: Loop, delay_s: Callable[[], float]) -> None:
        self._timeline = timeline
        self._loop = loop
        self._delay_s = delay_s
        self._jobs: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._loop.dead:
            self._jobs.append((future, fn, args))
            if len(self._jobs) == 1:
                self._start()
        return future

    def crash(self, landed: bool) -> None:
        """The process is dead. What the disk was about may have reached it or not; never in part."""
        jobs, self._jobs = self._jobs, deque()
        if jobs and landed:
            _, fn, args = jobs[0]
            with suppress(Exception):  # nobody is left who would be told
                fn(*args)

    def _start(self) -> None:
        self._timeline.after(self._delay_s(), self._finish)

    def _finish(self) -> None:
        if self._loop.dead or not self._jobs:
            return
        future, fn, args = self._jobs.popleft()
        try:
            result = fn(*args)
        except Exception as e:
            future.set_exception(e)
        else:
            future.set_result(result)
        if self._jobs:
            self._start()
