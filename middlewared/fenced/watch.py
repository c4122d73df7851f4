"""Ends this controller when fenced is gone for too long: `middlewared-fenced --watch`.

systemd restarts what dies; it has no word for "gone for a second, however that came". And it must not be a restart
count: a fenced that hangs at its start, or one that a broken disk driver does not let go, is gone as well.

    never seen   --a connection-->  there             a controller whose fenced cannot start at all is left to people
    there        --it breaks-->     gone since t
    gone         --a connection-->  there
    gone for the limit              the controller ends

A connection to fenced's socket that says nothing is held open; the kernel closes it with the process, whatever state
that is in. When this process itself did not run for a while (the controller was frozen), the time does not count.

Not handled: a fenced that lives and does nothing. systemd's watchdog kills it; then it is gone.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable

LIMIT_S = 1.0
LOOK_S = 0.05
STALL_S = 0.5


class Absence:
    """Whether fenced has been gone for `limit_s`. `now` is in seconds of a clock that never goes back."""

    def __init__(self, limit_s: float, now: float) -> None:
        self._limit_s = limit_s
        self._seen = False
        self._gone_since: float | None = None
        self._looked_at = now

    def look(self, there: bool, now: float) -> bool:
        """Whether it has been gone for the limit, now that it was looked for."""
        stalled = now - self._looked_at > STALL_S
        self._looked_at = now
        if there:
            self._seen, self._gone_since = True, None
        elif self._seen and (self._gone_since is None or stalled):
            self._gone_since = now
        return self._gone_since is not None and now - self._gone_since >= self._limit_s


def watch(path: str, end: Callable[[str], None]) -> None:
    """Never returns, unless `end` does: it is called once, with the reason. path: fenced's socket."""
    absence = Absence(LIMIT_S, time.monotonic())
    line: socket.socket | None = None
    while not absence.look(line is not None, time.monotonic()):
        if line is None:
            line = _connected(path)
            time.sleep(0.0 if line is not None else LOOK_S)
        elif _broken(line):
            line.close()
            line = None
    end(f"fenced has been gone for {LIMIT_S:g} s")


def _connected(path: str) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    line.setblocking(False)
    with contextlib.suppress(OSError):
        line.connect(path)
        return line
    line.close()
    return None


def _broken(line: socket.socket) -> bool:
    """Wait a moment; whether the other end is gone."""
    readable, _, _ = select.select([line], [], [], STALL_S / 2)
    if not readable:
        return False
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
