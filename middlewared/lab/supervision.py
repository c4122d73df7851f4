"""When pid 1 of a controller starts, kills and gives up its daemons. Pure: time is handed in.

A service is RUNNING or WAITING for its next start.

    WAITING  --its delay is over-->  RUNNING             Start
    RUNNING  --ended-->              WAITING             after 20 ms; dying young repeatedly: 100 ms to 2 s
    RUNNING  --silent after READY--> RUNNING             Kill; the end then comes as `Ended`
    vital and not back for its limit                     Reboot      back: READY was said, or it runs at the limit

Young is less than a second: a daemon that is shot once a second by a test is restarted at once, one that cannot start
is not spun. The watchdog follows sd_notify(3): it runs from READY=1, and each WATCHDOG=1 renews it.

When this process itself did not run (the controller was frozen), silence says nothing about the others: a deadline that
is found `STALL_S` too late starts anew instead of firing.

Not handled: a daemon that hangs before READY is not killed, since replaying a long log takes its time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

YOUNG_S = 1.0
BACKOFF_S = (0.02, 0.02, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
"""The delay after the n-th young death in a row, the last one from there on; never more than the service's own."""
STALL_S = 0.5


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon. watchdog_s: None = no watchdog. vital_s: how long it may be gone before the controller reboots.

    longest_wait_s: before it is started again, however often it died young.
    """

    name: str
    argv: tuple[str, ...]
    log: str
    watchdog_s: float | None = None
    vital_s: float | None = None
    longest_wait_s: float = BACKOFF_S[-1]
    fds: tuple[int, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    name: str


class Ready(msgspec.Struct, frozen=True):
    name: str


class Alive(msgspec.Struct, frozen=True):
    name: str


class Tick(msgspec.Struct, frozen=True):
    """Nothing happened but that time went on."""


class Start(msgspec.Struct, frozen=True):
    name: str


class Kill(msgspec.Struct, frozen=True):
    name: str
    why: str


class Reboot(msgspec.Struct, frozen=True):
    why: str


Message: TypeAlias = Ended | Ready | Alive | Tick
Action: TypeAlias = Start | Kill | Reboot


class _Run(msgspec.Struct):
    """One service as it stands. Each *_at is when something falls due; None: nothing does."""

    service: Service
    running: bool = False
    started: float = 0.0
    young_deaths: int = 0
    start_at: float | None = None
    silent_at: float | None = None
    reboot_at: float | None = None


class Supervision:
    """All services of one controller. `now` is in seconds of a clock that never goes back."""

    def __init__(self, services: Iterable[Service], now: float) -> None:
        self._runs = {service.name: _Run(service, start_at=now) for service in services}

    def receive(self, message: Message, now: float) -> list[Action]:
        """What to do, now that `message` came."""
        if isinstance(message, Ended):
            self._ended(self._runs[message.name], now)
        elif isinstance(message, Ready | Alive):
            self._heard(self._runs[message.name], isinstance(message, Ready), now)
        return [action for run in self._runs.values() for action in _due(run, now)]

    def deadline(self) -> float | None:
        """When to come back with a Tick at the latest."""
        due = [at for run in self._runs.values() for at in (run.start_at, run.silent_at, run.reboot_at)]
        return min((at for at in due if at is not None), default=None)

    def _ended(self, run: _Run, now: float) -> None:
        run.running = False
        run.silent_at = None
        run.young_deaths = run.young_deaths + 1 if now - run.started < YOUNG_S else 0
        run.start_at = now + min(BACKOFF_S[min(run.young_deaths, len(BACKOFF_S) - 1)], run.service.longest_wait_s)
        if run.service.vital_s is not None and run.reboot_at is None:
            run.reboot_at = now + run.service.vital_s

    def _heard(self, run: _Run, ready: bool, now: float) -> None:
        if run.running and ready:
            run.reboot_at = None
        if run.running and run.service.watchdog_s is not None and (ready or run.silent_at is not None):
            run.silent_at = now + run.service.watchdog_s


def _due(run: _Run, now: float) -> list[Action]:
    actions: list[Action] = []
    if run.start_at is not None and now >= run.start_at:
        run.start_at, run.running, run.started = None, True, now
        actions.append(Start(run.service.name))
    if run.silent_at is not None and now >= run.silent_at:
        stalled = now > run.silent_at + STALL_S
        run.silent_at = now + (run.service.watchdog_s or 0.0) if stalled else None
        if not stalled:
            actions.append(Kill(run.service.name, f"it said nothing for {run.service.watchdog_s} s"))
    if run.reboot_at is not None and now >= run.reboot_at:
        gone = not run.running and now <= run.reboot_at + STALL_S
        run.reboot_at = None
        if gone:
            actions.append(Reboot(f"{run.service.name} has been gone for {run.service.vital_s} s"))
    return actions
