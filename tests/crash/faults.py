"""One call fails, or all from there on: a controller that runs on, and ends and begins anew where it must.

    python -m tests.crash.faults MARK < lines of: DIRECTORY FAULT

Runs under record.c, many lives in one process. DIRECTORY has `data` to live on and gets `trace`; FAULT is as in
record.c. Of each life one line comes back: how many calls the fault has counted, and the life's last word.

A life: a log of a killed process is opened, written on in groups, with checkpoints; a tail that was never answered goes
to quarantine; the projections are made again; all is closed. It does what the daemon does about a failure: the same
bytes again after OutOfSpace (engine/appends.py), the end of the process after anything else.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from middlewared.kernel.errors import LogDamaged, MiddlewareError, OutOfSpace
from middlewared.kernel.event import Record
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.rebuild import rebuild
from tests.crash.workloads import NOUNS, PREPARED, REGISTRY, Say, chain, checkpoint_soon, fold, groups, opened

STARTS = 3
TRIES = 3
WHOLE = PREPARED + 12
TAIL = 5


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


def main() -> None:
    shim = ctypes.CDLL(None)
    with Path(sys.argv[1]).open("ab", buffering=0) as mark:
        for line in sys.stdin:
            directory, _, fault = line.strip().partition(" ")
            data = Path(directory) / "data"
            last = ""

            def say(words: str) -> None:
                nonlocal last
                last = words
                mark.write(f"{words}\n".encode())

            shim.crash_set(str(data).encode(), f"{directory}/trace".encode(), fault.encode() or None)
            try:
                live(data, say)
            except Exception as e:
                say(f"escaped: {e!r}")
            seen = shim.crash_seen()
            shim.crash_set(None, None, None)
            print(seen, last, flush=True)


if __name__ == "__main__":
    main()
