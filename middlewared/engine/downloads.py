"""Files that jobs made, to be fetched once over HTTP: the browser's way to a backup.

    core.download  begins the job and gives its number and an address with a token
    GET            waits for the job's end and is sent the file; the token is good once, and for OFFER_S

Only a job that is declared to give a file gives one; what it gives is the `path` of its result.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from middlewared.engine.jobs import Job
from middlewared.kernel.errors import CallFailed, MiddlewareError

OFFER_S = 300.0
WAIT_S = 60.0
OFFERS = 100
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class _Offer(NamedTuple):
    job: Job
    filename: str
    until: float


class Downloads:
    """The files that may be fetched. new_token: makes what cannot be guessed. To be used from the event loop only."""

    def __init__(self, new_token: Callable[[], str]) -> None:
        self._new_token = new_token
        self._offers: dict[str, _Offer] = {}

    def offer(self, job: Job, filename: str) -> str:
        """Where the file of `job` can be fetched, under that name. Raises CallFailed where too many wait for it."""
        now = asyncio.get_running_loop().time()
        self._offers = {token: offer for token, offer in self._offers.items() if offer.until > now}
        if len(self._offers) >= OFFERS:
            raise CallFailed(errno.EBUSY, f"{OFFERS} files wait to be fetched already")
        token = self._new_token()
        self._offers[token] = _Offer(job, _ODD.sub("_", filename).lstrip(".") or "file", now + OFFER_S)
        return f"/_download/{job.id}?auth_token={token}"

    async def fetch(self, id_: int, token: str) -> tuple[Path, str]:
        """The file and its name, once. Raises CallFailed: ENOENT, EAGAIN while the job runs, else what it raised."""
        offer = self._offers.get(token)
        if offer is None or offer.job.id != id_ or offer.until <= asyncio.get_running_loop().time():
            raise CallFailed(errno.ENOENT, "There is no such file, or it was fetched, or its time is over")
        await asyncio.wait([offer.job.outcome], timeout=WAIT_S)
        if not offer.job.over:
            raise CallFailed(errno.EAGAIN, f"Job {id_} is not over yet")
        if self._offers.pop(token, None) is None:
            raise CallFailed(errno.ENOENT, "Somebody else has fetched it meanwhile")
        try:
            result = offer.job.outcome.result()
        except MiddlewareError as e:
            raise CallFailed(errno.EIO, f"Job {id_} made no file: {e}") from None
        path = result.get("path") if isinstance(result, dict) else None
        if not isinstance(path, str):
            raise CallFailed(errno.EIO, f"Job {id_} made no file")
        return Path(path), offer.filename
