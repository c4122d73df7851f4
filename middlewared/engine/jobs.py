"""Jobs: calls that take longer than anybody waits for an answer, with progress, and an end that is told.

    WAITING    jobs of its turn are not over: of its method, where that says nothing else; they run one after the other
    RUNNING    its handler runs
    SUCCESS, FAILED, ABORTED    over; `result` or `error` says how

Every change is told to the subscribers of `core.get_jobs`: `added` first, `changed` after it, the last of them with a
terminal state, and only then is the call itself answered. Clients wait without a limit for that end, so every way out
of a handler leads there. Progress is told PROGRESS_S apart at most.

A job belongs to this process: it goes on when its client goes, and ends with the daemon; the clients then see the
connection close. Nothing of it is in the log. A job is for who started it and for administrators.

The form of the notifications is that of the clients of this API family, which find their job by `message_ids`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import msgspec

from middlewared.kernel.errors import CallFailed, MiddlewareError, Refused
from middlewared.ports import Clock
from middlewared.protocol import rpc
from middlewared.protocol.session import FULL_ADMIN, Session

log = logging.getLogger(__name__)

COLLECTION = "core.get_jobs"
UNDER_WAY = 64
HISTORY = 256
"""Jobs that are over and still told of."""
PROGRESS_S = 0.1

State = Literal["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABORTED"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is about. username: who started it, origin: from where.

    message_id: of the call, None if it has none. unique: no other call has it, so one that comes again is the same.
    turn: jobs of the same one run one after the other; None: it waits for none.
    """

    method: str
    arguments: Sequence[object]
    username: str
    origin: str
    message_id: rpc.Id
    unique: bool
    abortable: bool
    turn: str | None


class Publish(Protocol):
    """How subscribers are told: engine.bus.Bus.publish."""

    def __call__(
        self,
        collection: str,
        *,
        msg: Literal["added", "changed", "removed"] = "changed",
        id: object = None,  # noqa: A002
        fields: Mapping[str, object] | None = None,
        to: Callable[[Session], bool] | None = None,
    ) -> None: ...


class Job:
    """One job, as long as it is told of."""

    def __init__(self, id_: int, asked: Asked, wall_ns: Callable[[], int], tell: Callable[[Job, bool], None]) -> None:
        self.id = id_
        self.asked = asked
        self.message_ids = [] if asked.message_id is None else [asked.message_id]
        self.state: State = "WAITING"
        self.percent: float = 0
        self.description = ""
        self.outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._wall_ns = wall_ns
        self._tell = tell
        self._started = wall_ns()
        self._finished: int | None = None
        self._result: object = None
        self._error: rpc.Detail | None = None
        self._exc_type = ""
        self._later: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        return self._finished is not None

    def run(self) -> None:
        self.state = "RUNNING"
        self._tell(self, False)

    def progress(self, percent: float, description: str) -> None:
        """How far it is. percent: 0-100."""
        if self.over:
            return
        self.percent, self.description = max(0, min(100, percent)), description
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(PROGRESS_S, self._tell_progress)

    def _tell_progress(self) -> None:
        self._later = None
        self._tell(self, False)

    def succeed(self, result: object) -> None:
        self._result, self.percent = result, 100
        self._end("SUCCESS")
        self.outcome.set_result(result)

    def fail(self, error: MiddlewareError) -> None:
        self._error = rpc.error_of(error).data or rpc.detail(errno.EIO, str(error))
        self._exc_type = "VALIDATION" if isinstance(error, Refused) else type(error).__name__
        self._end("FAILED")
        self.outcome.set_exception(error)
        self.outcome.exception()  # Nobody need be waiting for it.

    def abort(self) -> None:
        self._end("ABORTED")
        self.outcome.set_exception(CallFailed(errno.ECANCELED, f"Job {self.id} was aborted"))
        self.outcome.exception()

    def _end(self, state: State) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self.state = state
        self._finished = self._wall_ns()
        self._tell(self, False)

    def view(self) -> dict[str, object]:
        """The job as clients read it."""
        error = self._error
        sentence = None
        if error is not None:
            sentence = error.reason if self._exc_type == "VALIDATION" else f"[{error.errname}] {error.reason}"
        return {
            "id": self.id,
            "message_ids": list(self.message_ids),
            "method": self.asked.method,
            "arguments": list(self.asked.arguments),
            "transient": False,
            "description": None,
            "abortable": self.asked.abortable,
            "logs_path": None,
            "logs_excerpt": None,
            "progress": {"percent": self.percent, "description": self.description, "extra": None},
            "result": self._result,
            "result_encoding_error": None,
            "error": sentence,
            "exception": sentence,
            "exc_info": None if error is None else self._exc_info(error),
            "state": self.state,
            "time_started": {"$date": self._started // 1_000_000},
            "time_finished": None if self._finished is None else {"$date": self._finished // 1_000_000},
            "credentials": {"type": "LOGIN_PASSWORD", "data": {"username": self.asked.username}},
        }

    def _exc_info(self, error: rpc.Detail) -> dict[str, object]:
        return {"type": self._exc_type, "repr": error.reason, "errno": error.error, "extra": error.extra}

    def may_see(self, username: str | None, roles: frozenset[str]) -> bool:
        """Whether it is told to a client of that name and those roles."""
        return username == self.asked.username or FULL_ADMIN in roles


class Jobs:
    """The jobs of this process. To be used from the event loop only."""

    def __init__(self, clock: Clock, publish: Publish) -> None:
        self._clock = clock
        self._publish = publish
        self._jobs: dict[int, Job] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._last_id = 0

    def start(self, asked: Asked, work: Callable[[Job], Awaitable[object]]) -> Job:
        """Begin a job; a call that comes again under its unique id joins the one that it began. Raises CallFailed."""
        known = self._of_message(asked)
        if known is not None:
            return known
        if len(self._tasks) >= UNDER_WAY:
            raise CallFailed(errno.EBUSY, f"{UNDER_WAY} jobs are under way already")
        self._last_id += 1
        job = self._jobs[self._last_id] = Job(self._last_id, asked, self._clock.wall_ns, self._tell)
        self._tell(job, True)
        task = self._tasks[job.id] = asyncio.get_running_loop().create_task(self._run(job, work))
        task.add_done_callback(lambda _: self._over(job))
        return job

    def views(self, username: str | None, roles: frozenset[str]) -> list[dict[str, object]]:
        """What a client of that name and those roles may see, oldest first, as clients read it."""
        return [job.view() for job in self._jobs.values() if job.may_see(username, roles)]

    def view(self, id: int) -> dict[str, object]:  # noqa: A002
        """One job. Raises CallFailed when there is no such job, or none any longer."""
        return self._get(id).view()

    def abort(self, id: int) -> None:  # noqa: A002
        """End a job, and what it started. Raises CallFailed when there is none, or it cannot be ended."""
        job = self._get(id)
        if not job.asked.abortable:
            raise CallFailed(errno.EPERM, f"Job {id}, {job.asked.method}, cannot be aborted")
        task = self._tasks.get(id)
        if task is not None:
            task.cancel()

    async def wait(self, id: int, timeout_s: float) -> dict[str, object]:  # noqa: A002
        """The job when it is over, or as it is after `timeout_s`."""
        job = self._get(id)
        await asyncio.wait([job.outcome], timeout=timeout_s)
        return job.view()

    def _get(self, id_: int) -> Job:
        job = self._jobs.get(id_)
        if job is None:
            raise CallFailed(errno.ENOENT, f"There is no job {id_}")
        return job

    async def close(self) -> None:
        """End every job. Nobody is told: the connections are closed by now."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[object]]) -> None:
        try:
            async with self._turn(job.asked.turn):
                job.run()
                result = msgspec.to_builtins(await work(job))
        except asyncio.CancelledError:
            job.abort()
        except MiddlewareError as e:
            job.fail(e)
        except Exception:
            log.exception("event=job_failed id=%d method=%s", job.id, job.asked.method)
            job.fail(
                CallFailed(errno.EFAULT, f"A fault of the program; this controller's log has it under job {job.id}")
            )
        else:
            job.succeed(result)

    def _turn(self, name: str | None) -> AbstractAsyncContextManager[None]:
        """Kept for as long as somebody has it or waits for it."""
        return nullcontext() if name is None else self._turns.setdefault(name, asyncio.Lock())

    def _over(self, job: Job) -> None:
        del self._tasks[job.id]
        if not job.over:
            job.abort()  # Cancelled before it came to run.
        over = [id_ for id_, job in self._jobs.items() if job.over]
        for id_ in over[: max(0, len(over) - HISTORY)]:
            del self._jobs[id_]

    def _of_message(self, asked: Asked) -> Job | None:
        if not asked.unique:
            return None
        for job in self._jobs.values():
            same = (job.asked.method, job.asked.username) == (asked.method, asked.username)
            if same and asked.message_id in job.message_ids:
                return job
        return None

    def _tell(self, job: Job, added: bool) -> None:
        self._publish(
            COLLECTION,
            msg="added" if added else "changed",
            id=job.id,
            fields=job.view(),
            to=lambda session: job.may_see(session.username, session.roles),
        )
