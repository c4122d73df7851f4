"""Makes the world outside equal to the committed state, on this controller, for itself.

An effect runs at the start, after every change of a noun that it watches, and again while it fails. One effect runs at
a time for itself, never twice at once: a change while it runs makes it run once more, a moment later. Failure is
status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.plugin import Aside, Effect, Noun, View
from middlewared.ports import Fence, Host

log = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

DEADLINE_S = 30.0
PAUSE_S = 0.25
"""After a run of an effect. Only the newest state counts, and a thousand changes a second need no thousand runs."""


class States(Protocol):
    """Who knows the committed state."""

    def state(self, noun: Noun[S]) -> S: ...


class EffectView:
    """plugin.View: what effects see."""

    def __init__(self, node: Node, states: States, host: Host, fence: Fence, aside: Aside) -> None:
        self.node = node
        self.host = host
        self.fence = fence
        self.aside = aside
        self._states = states

    def state(self, noun: Noun[S]) -> S:
        return self._states.state(noun)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an effect stands. why None: the world is as the state wants it."""

    effect: str
    why: str | None


class Reconciler:
    """Runs every effect in a task of its own. deadline_s: how long one run may take."""

    def __init__(self, effects: Iterable[Effect], view: View, *, deadline_s: float = DEADLINE_S) -> None:
        self._view = view
        self._deadline_s = deadline_s
        self._wake = {effect.name: asyncio.Event() for effect in effects}
        self._effects = {effect.name: effect for effect in effects}
        self._outcomes: dict[str, str | None] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for effect in self._effects.values():
            self._wake[effect.name].set()
            self._tasks.append(asyncio.get_running_loop().create_task(self._keep(effect)))

    def changed(self, nouns: Iterable[str]) -> None:
        """The state of these nouns changed."""
        names = set(nouns)
        for effect in self._effects.values():
            if names.intersection(effect.watches):
                self._wake[effect.name].set()

    def outcomes(self) -> list[Outcome]:
        return [Outcome(effect=name, why=why) for name, why in sorted(self._outcomes.items())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, effect: Effect) -> None:
        wake = self._wake[effect.name]
        while True:
            failing = self._outcomes.get(effect.name) is not None
            try:
                async with asyncio.timeout(effect.retry_s if failing else None):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            await self._run(effect)
            await asyncio.sleep(PAUSE_S)

    async def _run(self, effect: Effect) -> None:
        why = None
        try:
            async with asyncio.timeout(self._deadline_s):
                await effect.reconcile(self._view)
        except TimeoutError:
            # First, because it is an OSError as well, with nothing to say.
            why = f"did not finish within {self._deadline_s:g} s"
        except (MiddlewareError, OSError) as e:
            why = str(e)
        except Exception as e:
            log.exception("event=effect_broken name=%s", effect.name)
            why = f"{type(e).__name__}: {e}"
        if why != self._outcomes.get(effect.name):
            level = logging.INFO if why is None else logging.ERROR
            log.log(level, "event=effect name=%s why=%r", effect.name, why)
        self._outcomes[effect.name] = why
