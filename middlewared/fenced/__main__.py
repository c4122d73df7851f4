"""`middlewared-fenced --config FILE`: read the boot file, harden the process, run; with --watch, watch who does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from middlewared.config import DEFAULT_PATH, BootFile, load
from middlewared.fenced.fenced import Fenced
from middlewared.fenced.outside import of_this_host
from middlewared.fenced.watch import watch
from middlewared.kernel.errors import BadBootFile
from middlewared.shell.clock import SystemClock
from middlewared.shell.journal import Journal
from middlewared.shell.notify import Init
from middlewared.shell.realtime import harden
from middlewared.shell.shared_disks import SharedDisks

PRIORITY = 20
DURABLE_S = 1.0
"""How long a disk may take to make a claim or the record durable."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="middlewared-fenced", description="Owns this controller's terms on the shared disks"
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help="the boot file")
    about = "reboot this controller when its fenced, once it was there, is gone for a second"
    parser.add_argument("--watch", action="store_true", help=about)
    arguments = parser.parse_args(argv)
    try:
        boot = load(arguments.config)
        if arguments.watch:
            return _watch(boot)
        with open_alone(boot):
            asyncio.run(_run(boot))
    except BadBootFile as e:
        return _refuse(str(e))
    except OSError as e:
        return _refuse(f"{boot.run_dir}: {e.strerror}")
    return 0


@contextlib.contextmanager
def open_alone(boot: BootFile) -> Iterator[None]:
    """Hold the run directory's lock: two fenced of one controller would own against each other. Raises OSError."""
    lock = os.open(f"{boot.run_dir}/fenced.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OSError(errno.EBUSY, "another fenced runs here") from None
    try:
        yield
    finally:
        os.close(lock)


async def _run(boot: BootFile) -> None:
    disks = SharedDisks(boot.voters, deadline_s=boot.timing.disk_dead_ms / 1000, durable_s=DURABLE_S)
    clock = SystemClock()
    fenced = Fenced(boot, disks.voting, clock, harden(PRIORITY), of_this_host(boot, disks, clock))
    alive = asyncio.ensure_future(Init().keep_alive())
    task = asyncio.ensure_future(fenced.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    alive.cancel()


def _watch(boot: BootFile) -> int:
    outside = of_this_host(boot, SharedDisks(None, deadline_s=DURABLE_S, durable_s=DURABLE_S), SystemClock())
    Journal("fenced-watch").note("start", scheduling=harden(PRIORITY))
    watch(boot.fenced_socket, outside.end)
    return 0


def _refuse(why: str) -> int:
    sys.stderr.writelines(f"middlewared-fenced: {line}\n" for line in why.splitlines())
    return 1


if __name__ == "__main__":
    sys.exit(main())
