"""`middlewared-lab up`: open what must be opened on the host, start the bench, wait until the pair serves."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from middlewared.client import SyncClient
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.lab import down, firstboot, programs, verbs
from middlewared.lab.daemon import Orders
from middlewared.lab.init import MEMBER
from middlewared.lab.layout import Layout
from middlewared.lab.machine import last_line

DOOR_TIMEOUT_S = 20.0
READY_TIMEOUT_S = 180.0
LOGIN_TIMEOUT_S = 15.0
_POLL_S = 0.02


class Result(msgspec.Struct, frozen=True):
    """What `up` prints last."""

    nodes: dict[str, dict[str, str]]
    vip_url: str
    user: str
    password: str
    dir: str


def up(layout: Layout, chosen: programs.Programs, say: Callable[[str], None]) -> bytes:
    """Bring a lab up, or find it up; returns the JSON that `up` prints last. Raises PortFailed, nothing is left."""
    with_zfs = programs.with_zfs(chosen)
    layout.prepare(with_zfs, plain=bool(chosen.builds))
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return verbs.ask(layout, verbs.Ready(), READY_TIMEOUT_S, say)
    down.sweep(layout)
    if not firstboot.recall(layout).set_up:
        layout.forget()
        layout.prepare(with_zfs, plain=bool(chosen.builds))
    try:
        with_bench = _start(layout, chosen, lock)
        os.close(lock)
        _wait_for_door(layout, with_bench)
        answer = verbs.ask(layout, verbs.Ready(), READY_TIMEOUT_S, say)
        if chosen.set_up:
            _log_in(msgspec.json.decode(answer, type=Result))
        return answer
    except BaseException:
        # KeyboardInterrupt too: a lab that was not finished is of no use to anyone.
        down.down(layout)
        raise


def _start(layout: Layout, chosen: programs.Programs, lock: int) -> subprocess.Popen[bytes]:
    """Start the bench. The listeners belong to the host's network, since they are opened here."""
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in ("A", "B", "vip")}
    orders = Orders(
        dir=str(layout.dir),
        lock=lock,
        listeners={name: listener.fileno() for name, listener in listeners.items()},
        urls={name: f"http://127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()},
        programs=chosen,
    )
    with layout.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "middlewared.lab.daemon", msgspec.json.encode(orders).decode()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock, *orders.listeners.values()],
            env={**os.environ, MEMBER: str(layout.dir)},
            start_new_session=True,
            cwd="/",
        )
    for listener in listeners.values():
        listener.close()
    return process


def _log_in(result: Result) -> None:
    """Go the whole way from the host to the owner of the virtual IP once. Raises PortFailed when it is not open."""
    limit = time.monotonic() + LOGIN_TIMEOUT_S
    while True:
        try:
            with SyncClient(result.vip_url, username=result.user, password=result.password) as client:
                client.call("auth.me", timeout_s=LOGIN_TIMEOUT_S)
                return
        except MiddlewareError as e:
            if time.monotonic() > limit:
                raise PortFailed(f"waited {LOGIN_TIMEOUT_S:g} s for a login at {result.vip_url}", str(e)) from None
        time.sleep(_POLL_S)


def _wait_for_door(layout: Layout, bench: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + DOOR_TIMEOUT_S
    while time.monotonic() < limit:
        if bench.poll() is not None:
            raise PortFailed("start the lab", last_line(layout.log))
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(str(layout.socket))
                return
        except OSError:
            time.sleep(_POLL_S)
    raise PortFailed("start the lab", f"the bench did not listen within {DOOR_TIMEOUT_S:g} s; {last_line(layout.log)}")
