"""Has the owner do what it does by itself: each duty of the plugins, again and again, while this controller may write.

A duty that fails is tried again at its next turn; its reason is logged when it changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from middlewared.engine.context import Engine
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.plugin import Command, Controller, Duty, Noun

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

ACTOR = "middlewared"
DEADLINE_S = 30.0


class DutyContext:
    """plugin.DutyCall."""

    def __init__(self, engine: Engine, controller: Controller) -> None:
        self._engine = engine
        self.node: Node = controller.node
        self.controller = controller

    def state(self, noun: Noun[S]) -> S:
        return self._engine.state(noun)

    async def execute(self, command: Command, *, request_id: str) -> None:
        await self._engine.execute(command, actor=ACTOR, origin=self.node, request_id=request_id)


class Duties:
    """Runs each duty in a task of its own."""

    def __init__(self, duties: Iterable[Duty], engine: Engine, controller: Controller) -> None:
        self._duties = tuple(duties)
        self._engine = engine
        self._call = DutyContext(engine, controller)
        self._why: dict[str, str | None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._keep(duty))

    async def _keep(self, duty: Duty) -> None:
        while True:
            if self._may_write():
                await self._do(duty)
            await asyncio.sleep(duty.every_s)

    def _may_write(self) -> bool:
        try:
            self._engine.gate_write()
        except MiddlewareError:
            return False
        return True

    async def _do(self, duty: Duty) -> None:
        why = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                await duty.run(self._call)
        except TimeoutError:
            why = f"did not finish within {DEADLINE_S:g} s"
        except MiddlewareError as e:
            why = str(e)
        except Exception as e:
            log.exception("event=duty_broken name=%r", duty.name)
            why = f"{type(e).__name__}: {e}"
        if why != self._why.get(duty.name):
            log.warning("event=duty name=%r why=%r", duty.name, why)
        self._why[duty.name] = why
