"""One call fails, or all from there on: what a process makes of it that does what a controller does to its files.

    python -m tests.crash.faults MARK < lines of: DIRECTORY LIFE FAULT

Runs under record.c, each life in a process that is forked for it and ends as if it were killed. DIRECTORY has `data`
to live on and gets `trace`; FAULT is as in record.c; the words of the life go to MARK. Of each life one line comes
back: how many calls the fault has counted.

A life is a workload, which ends at the first error, or `faults`, which goes on: a log of a killed process is opened,
written on in groups, with checkpoints; a tail that was never answered goes to quarantine; the projections are made
again; all is closed. It does what the daemon does about a failure: the same bytes again after OutOfSpace
(engine/appends.py), the end of the process after anything else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import alembic.command  # noqa: F401  (here once, not in every life)

from middlewared.kernel.errors import LogDamaged, MiddlewareError, OutOfSpace
from middlewared.kernel.event import Record
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.rebuild import rebuild
from tests.crash.workloads import (
    NOUNS,
    PREPARED,
    REGISTRY,
    WORKLOADS,
    Say,
    chain,
    checkpoint_soon,
    fold,
    groups,
    opened,
)

STARTS = 3
TRIES = 3
WHOLE = PREPARED + 12
TAIL = 5
LIFE_S = 30


def live(data: Path, say: Say) -> None:
    """A controller's life: it is started again when it ends, as init does."""
    for _ in range(STARTS):
        try:
            with DataDirectory(data):
                _serve(data, say)
        except LogDamaged as e:
            say(f"damaged: {e}")
        except MiddlewareError as e:
            say(f"ended: {e}")
        else:
            say("done")
            return


def _serve(data: Path, say: Say) -> None:
    log, state = opened(data)
    try:
        checkpoint_soon(log)
        checkpoint_soon(state)
        records = chain(WHOLE)
        for group in groups(records[log.head().seq :]):
            say(f"acked {_append(log, group)}")
            with suppress(MiddlewareError):  # as engine/apply.py: the next change writes it too
                fold(state, records[: group[-1].seq])
        tail = chain(TAIL, records[-1].position, term=2)
        if log.head() == records[-1].position:
            _append(log, tail)
        log.cut(records[-1].position, data / "quarantine", pair_seq=WHOLE)
        state.close()
        rebuild(log, data / "state.db", REGISTRY.catalogue, NOUNS, WHOLE)
    finally:
        state.close()
        log.close()


def _append(log: LogStore, group: Sequence[Record]) -> int:
    for _ in range(TRIES):
        try:
            return log.append(group).seq
        except OutOfSpace:
            if log.reopen() == group[-1].position:
                break
    return log.head().seq


def once(work: Callable[[Path, Say], None], data: Path, say: Say) -> None:
    """A workload, up to the first error."""
    try:
        work(data, say)
    except MiddlewareError as e:
        say(f"ended: {type(e).__name__}: {e}")
    else:
        say("done")


LIVES: dict[str, Callable[[Path, Say], None]] = {
    "faults": live,
    **{name: partial(once, work) for name, work in WORKLOADS.items()},
}


def _lived(life: Callable[[Path, Say], None], data: Path, say: Say) -> int:
    """The status with which the life ended; 0 also where it ended with an error of ours."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIFE_S)
        try:
            life(data, say)
        except BaseException as e:
            say(f"escaped: {e!r}")
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main() -> None:
    shim = ctypes.CDLL(None)
    with Path(sys.argv[1]).open("ab", buffering=0) as mark:

        def say(words: str) -> None:
            mark.write(f"{words}\n".encode())

        for line in sys.stdin:
            directory, life, fault = line.strip().split(" ", 2)
            data = Path(directory) / "data"
            shim.crash_set(str(data).encode(), f"{directory}/trace".encode(), fault.encode())
            if status := _lived(LIVES[life], data, say):
                say(f"escaped: wait status {status}")
            seen = shim.crash_seen()
            shim.crash_set(None, None, None)
            print(seen, flush=True)


if __name__ == "__main__":
    main()
