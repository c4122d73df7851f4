"""A pair with real logs in one process, while the owner's disk stalls or fails once.

    python -m tests.crash.bad_disk DIRECTORY stall|EIO

Runs under record.c, so it is the sync of the kernel that takes its time or fails; SQLite is asked to believe it. Ends
with status 0 when all is as it must be.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import sys
import time
from contextlib import closing
from pathlib import Path

from middlewared.kernel.errors import OutcomeUnknown
from middlewared.store.log import LogStore
from tests.engine.controllers import until
from tests.engine.pair import Pair, outcome

STALL_S = 10
DEADLINE_S = 1.0


def fail_next_sync(data: Path, fault: str) -> None:
    ctypes.CDLL(None).crash_set(str(data).encode(), None, f"call=sync,path=log.db-wal,{fault}".encode())


async def stall(directory: Path) -> None:
    """The command has no known outcome at its deadline, no role changes, and the write lands when the disk is back."""
    async with Pair(directory, deadline_s=DEADLINE_S) as pair:
        await pair.in_sync()
        fail_next_sync(pair.a.directory, f"delay_ms={STALL_S * 1000}")
        began = time.monotonic()
        told = await outcome(asyncio.create_task(pair.a.update(domain="slow.example")))
        assert time.monotonic() - began < STALL_S / 2
        assert isinstance(told, OutcomeUnknown)
        assert told.request_id
        assert pair.a.configuration.domain == "local"
        await until(lambda: pair.a.configuration.domain == "slow.example", 2 * STALL_S)
        assert time.monotonic() - began >= STALL_S
        await pair.equal()
        assert pair.a.replica.term == 1
        assert pair.a.fatal == pair.b.fatal == []


async def fail_once(directory: Path) -> None:
    """The sync is not tried again and believed: the process ends, nobody is answered, the next one finds the log."""
    async with Pair(directory) as pair:
        await pair.in_sync()
        done = await pair.a.update(domain="before.example")
        fail_next_sync(pair.a.directory, f"errno={errno.EIO}")
        work = asyncio.create_task(pair.a.update(domain="after.example"))
        await until(lambda: bool(pair.a.fatal))
        assert pair.a.fatal[0].startswith("the log cannot be written: "), pair.a.fatal
        assert not work.done()
        work.cancel()
        where = pair.a.directory / "log.db"
    with closing(LogStore.open(where)) as log:
        assert log.verify().seq >= done.seq


CASES = {"stall": stall, "EIO": fail_once}

if __name__ == "__main__":
    asyncio.run(CASES[sys.argv[2]](Path(sys.argv[1])))
