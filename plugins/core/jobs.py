"""The jobs of this controller: what runs, what ran, and how to end or await it. Each is for who started it, and for
administrators.

The other controller's daemon starts, looks at and ends jobs here by three questions.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from middlewared.kernel.errors import CallFailed
from middlewared.plugin import Call, PeerCall, local, peer, query
from middlewared.plugin.filters import Filters, Options, pick

WAIT_S = 50.0
LOOK_S = 1.0
OVER = ("SUCCESS", "FAILED", "ABORTED")


@query("core.get_jobs")
async def get_jobs(call: Call, filters: Filters = [], options: Options = Options()) -> object:  # noqa: B006, B008
    """The jobs of this controller since its daemon started, oldest first: all that run, and the last 256 others."""
    return pick(_mine(call), filters, options)


@local("core.job_abort")
async def job_abort(call: Call, id: int) -> None:  # noqa: A002
    """End a job; its last notification says ABORTED. Nothing happens to one that is over."""
    _one_of_mine(call, id)
    call.jobs.abort(id)


@local("core.job_wait")
async def job_wait(call: Call, id: int) -> object:  # noqa: A002
    """Wait for the end of a job, 50 s at most, and return its result. Raises what the job raised."""
    _one_of_mine(call, id)
    job = await call.jobs.wait(id, WAIT_S)
    match job["state"], job["exc_info"]:
        case "SUCCESS", _:
            return job["result"]
        case "ABORTED", _:
            raise CallFailed(errno.ECANCELED, f"Job {id} was aborted")
        case "FAILED", {"errno": int(number), "repr": str(reason), "extra": extra}:
            raise CallFailed(number, reason, extra if isinstance(extra, Mapping | list) else None)
    raise CallFailed(errno.ETIMEDOUT, f"Job {id} is not over after {WAIT_S:g} s; wait again")


@local("core.download")
async def download(call: Call, method: str, args: list[Any], filename: str) -> tuple[int, str]:
    """Begin a job that makes a file: its number, and where this controller gives the file under `filename`.

    GET that address within five minutes, once. It answers when the job is over, 503 while it runs longer than a minute.
    """
    return call.download(method, args, filename)


def _mine(call: Call) -> list[Mapping[str, object]]:
    return list(call.jobs.views(call.session.username, call.session.roles))


def _one_of_mine(call: Call, id_: int) -> None:
    if all(job["id"] != id_ for job in _mine(call)):
        raise CallFailed(errno.ENOENT, f"There is no job {id_}")


@peer("core.job_start")
async def job_start(call: PeerCall, method: str, arguments: list[object], username: str) -> int:
    """Begin a job here on behalf of the other controller's user. Returns its id."""
    return call.start_job(method, arguments, username)


@peer("core.job_look")
async def job_look(call: PeerCall, id: int) -> Mapping[str, object]:  # noqa: A002
    """A job of this controller: when it is over, or as it is after a second."""
    return await call.jobs.wait(id, LOOK_S)


@peer("core.job_end")
async def job_end(call: PeerCall, id: int) -> None:  # noqa: A002
    """End a job that the other controller began."""
    call.jobs.abort(id)


METHODS = (get_jobs, job_abort, job_wait, download)
PEER = (job_start, job_look, job_end)
