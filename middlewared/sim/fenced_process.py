"""fenced of a simulated controller: production code on a loop of its own, composed as fenced/__main__.py does."""

from __future__ import annotations

from collections.abc import Callable

from middlewared.config import BootFile
from middlewared.fenced.fenced import Fenced
from middlewared.fenced.memory import Memory
from middlewared.fenced.outside import Surroundings
from middlewared.kernel.facts import other
from middlewared.protocol import hub
from middlewared.sim.hub import HubServer
from middlewared.sim.loop import Loop, MortalClock
from middlewared.sim.processes import TIMING, Machine
from middlewared.sim.voter import Cable

CABLE_S = 0.5
POWER_S = 1.0


class FencedProcess:
    """The production fenced on its own loop."""

    def __init__(self, controller: Machine) -> None:
        self.controller = controller
        world = controller.world
        self.loop = Loop(world.timeline, controller.clock, self._broke)
        world.loops.append(self.loop)
        self.loop.freeze(controller.frozen)
        boot = BootFile(node=controller.node, timing=TIMING)
        cables = tuple(
            Cable(
                f"disk{i}",
                disk,
                controller.node,
                world.timeline,
                self.loop,
                world.network.path(f"cable{i}", controller.node),
                CABLE_S,
            )
            for i, disk in enumerate(world.disks)
        )
        self.server: HubServer
        outside = Surroundings(
            hub=self._make_server,
            recall=self._recall,
            remember=self._remember,
            draw=world.random.uniform,
            note=self._note,
            end=controller.end,
            power=PeerPower(controller, self.loop) if world.has_bmc else None,
        )
        self._fenced = self.loop.enter(Fenced, boot, cables, MortalClock(controller.clock, self.loop), "", outside)
        self.loop.spawn(self._fenced.run)

    def _make_server(
        self, on_message: Callable[[object, hub.ToFenced], None], on_gone: Callable[[object], None]
    ) -> HubServer:
        self.server = HubServer(self.controller.world.timeline, self.loop, on_message, on_gone)
        return self.server

    def _broke(self, why: str) -> None:
        """fenced has no reason to end: what it decides with is total, whatever it sees (I10)."""
        self.controller.world.watch.halted(self.controller.node, why)
        self.controller.kill_fenced(why)

    def _recall(self, now: float) -> Memory:
        return self.controller.memory or Memory(boot_id=self.controller.boot_id, booted_at=now)

    def _remember(self, memory: Memory) -> None:
        self.controller.memory = memory

    def _note(self, event: str, **fields: object) -> None:
        controller = self.controller
        controller.world.trace.add(controller.node, f"fenced-{event}", **fields)
        if event == "own":
            controller.world.watch.granted(controller.node, int(str(fields["term"])))
        if event == "stand":
            middlewared = controller.middlewared
            controller.world.watch.stood(str(fields["rule"]), middlewared.phase if middlewared is not None else "down")


class PeerPower:
    """ports.Power: the other machine's, which takes a moment. It boots again at once."""

    def __init__(self, controller: Machine, loop: Loop) -> None:
        self._controller = controller
        self._loop = loop

    async def power_off(self) -> str | None:
        world, node = self._controller.world, self._controller.node
        await self._loop.sleep(POWER_S * world.random.random())
        if world.network.path("bmc", node).cut:
            return "the management controller does not answer"
        world.controllers[other(node)].power_cycle()
        return None

    async def is_on(self) -> bool:
        return self._controller.world.controllers[other(self._controller.node)].fenced is not None
