"""Runs a plan: does what its machine says, one deed at a time, each within its limit.

A deed whose limit passed, or whose term is over, is cancelled where it waits. What it had begun outside goes on, which
is why the machine undoes such a step or ends the controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.ports import Clock
from middlewared.protocol import plan
from middlewared.protocol.plan import Do, Done, Failed, Finish, Message, Over, Plan, Run, Tick, Undo

log = logging.getLogger(__name__)

Deed = Callable[[], Awaitable[str]]
"""Returns what there is to tell of it. Raises MiddlewareError."""


class Deeds(msgspec.Struct, frozen=True):
    """What is done for each step, and what takes it back."""

    do: Mapping[str, Deed]
    undo: Mapping[str, Deed]


class Tell(Protocol):
    """Called at every step: the run as it stands."""

    def __call__(self, run: Run) -> None: ...


class Steps:
    """Carries out one plan at a time."""

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._over: asyncio.Future[str] | None = None

    @property
    def running(self) -> bool:
        return self._over is not None

    def term_is_over(self, why: str) -> None:
        """Whatever is under way is abandoned."""
        if self._over is not None and not self._over.done():
            self._over.set_result(why)

    async def run(self, wanted: Plan, deeds: Deeds) -> Run:
        """Returns how it ended; it never raises but when it is cancelled."""
        self._over = asyncio.get_running_loop().create_future()
        try:
            run, actions = plan.begin(wanted, self._clock.boottime())
            while True:
                self._tell(run)
                (action,) = actions
                if isinstance(action, Finish):
                    log.info("event=plan_over plan=%s phase=%s why=%r", wanted.name, action.phase.value, action.why)
                    return run
                message = await self._wait_for(action, deeds, run)
                run, actions = plan.receive(run, message, self._clock.boottime())
        finally:
            self._over = None

    async def _wait_for(self, action: Do | Undo, deeds: Deeds, run: Run) -> Message:
        """What becomes of one deed."""
        assert self._over is not None
        deed = (deeds.do if isinstance(action, Do) else deeds.undo)[action.step.name]
        work = asyncio.ensure_future(deed())
        deadline = run.deadline()
        assert deadline is not None
        try:
            while not work.done() and not self._over.done():
                left_s = deadline - self._clock.boottime()
                if left_s <= 0:
                    return Tick()
                await asyncio.wait({work, self._over}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return _outcome(work, action.step.name)
            return Over(self._over.result())
        finally:
            work.cancel()


def _outcome(work: asyncio.Future[str], step: str) -> Message:
    error = work.exception()
    if error is None:
        return Done(work.result())
    if not isinstance(error, MiddlewareError):
        log.error("event=step_broken step=%s", step, exc_info=error)
    return Failed(str(error) or type(error).__name__)
