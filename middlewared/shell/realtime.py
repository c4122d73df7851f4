"""Real-time treatment for the two small processes: no page faults, no garbage collector pauses, a turn at once; and a
collector that the daemon seldom meets.

Each of the three helps and none is needed: what was refused (a container, an ordinary user) is said, never fatal.
Sources: mlockall(2), sched(7).
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource

_MCL_CURRENT = 1
_MCL_FUTURE = 2


def harden(priority: int) -> str:
    """Lock the memory, ask for SCHED_RR at `priority` (1-99) and freeze what the collector has seen so far.

    Call it when everything is imported and before the loop runs. Returns what was got, in words for status.
    """
    gc.collect()
    gc.freeze()
    return f"{_scheduling(priority)}, {_locked_memory()}, gc frozen"


def spare_collector() -> None:
    """Have the garbage collector pass over what was imported, and come less often: for a process with many callers.

    Call it when everything is imported. As it is set by default (after each 700 objects, and now and then through all
    imports) it costs a daemon under 64 writers a fifth of its calls.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _scheduling(priority: int) -> str:
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as e:
        return f"ordinary scheduling (SCHED_RR: {e.strerror})"
    return f"SCHED_RR {priority}"


def _locked_memory() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _future()) != 0:
        return f"memory not locked ({os.strerror(ctypes.get_errno())})"
    return "memory locked"


def _future() -> int:
    """Lock later memory too, but only where no limit applies: below one, a later allocation would fail instead."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    with open("/proc/self/uid_map") as uid_map:  # noqa: PTH123 - pathlib costs a tenth of the start
        whole_machine = uid_map.read().split() == ["0", "0", "4294967295"]
    return _MCL_FUTURE if unlimited or (os.geteuid() == 0 and whole_machine) else 0
