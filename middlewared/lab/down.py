"""`middlewared-lab down`: end a lab and leave nothing of it in the kernel, whatever state it is in.

The bench ends its own lab when it can. What is left after that, or when the bench was killed, is found by marks: each
process of a lab carries MEMBER=DIR in its environment, each loop device has a file below DIR.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

from middlewared.kernel.errors import PortFailed
from middlewared.lab import loops, verbs
from middlewared.lab.init import MEMBER
from middlewared.lab.layout import Layout

DOWN_TIMEOUT_S = 30.0
SWEEP_TIMEOUT_S = 10.0
_POLL_S = 0.02


def down(layout: Layout, wipe: bool = False) -> None:
    """End the lab; nothing there is fine. wipe: remove the databases too. Raises PortFailed if something stays."""
    if not layout.dir.is_dir():
        return
    with contextlib.suppress(PortFailed):
        # A bench that hangs or is gone is dealt with below.
        verbs.ask(layout, verbs.Down(), DOWN_TIMEOUT_S)
        _wait_for_end(layout)
    sweep(layout)
    if wipe:
        layout.forget()
        for file in (layout.lock, layout.log):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            layout.dir.rmdir()  # it may hold files of somebody else


def sweep(layout: Layout) -> None:
    """Kill and detach what is left of this lab, remove its socket. Raises PortFailed if something stays."""
    limit = time.monotonic() + SWEEP_TIMEOUT_S
    images = layout.disk_images()
    while True:
        left = members_of(layout)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        busy = loops.detach_all(images) if loops.possible() else []
        if not left and not busy:
            break
        if time.monotonic() > limit:
            raise PortFailed("end the lab", f"still there: {[*left, *map(str, busy)]}")
        time.sleep(_POLL_S)
    layout.socket.unlink(missing_ok=True)


def members_of(layout: Layout) -> list[int]:
    """Every process that carries this lab's mark."""
    mark = f"{MEMBER}={layout.dir}".encode()
    pids = (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and mark in _environment(pid)]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # gone, or not ours


def _wait_for_end(layout: Layout) -> None:
    """The bench holds the lock as long as it lives."""
    limit = time.monotonic() + SWEEP_TIMEOUT_S
    with layout.lock.open("rb") as lock:
        while time.monotonic() < limit:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_S)
            else:
                return
