"""One controller: its disk and clock, and the processes that its init keeps alive.

What runs in them: processes.py. carpd is sim/signs.py. Init starts what died again after a moment.
"""

from __future__ import annotations

from middlewared.fenced.memory import Memory
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node, other
from middlewared.sim.carp import Deed, Kernel, Word
from middlewared.sim.disk import Platter
from middlewared.sim.fenced_process import FencedProcess
from middlewared.sim.processes import TIMING, Middlewared, World
from middlewared.sim.signs import Signs
from middlewared.sim.timeline import Clock
from middlewared.sim.zfs import Zfs

RESTART_S = 0.1
REBOOT_S = 1.0


class Controller:
    """The machine. middlewared, fenced: the processes that run now, None while they do not."""

    def __init__(self, world: World, node: Node, rate: float) -> None:
        self.world = world
        self.node = node
        self.platter = Platter(world.random)
        self._rate = rate
        self._boots = 0
        self.frozen = False
        self._frozen_at = 0.0
        self.slow_s = 0.0
        self.powered = False
        self.memory: Memory | None = None
        self.middlewared: Middlewared | None = None
        self.fenced: FencedProcess | None = None
        self.signs: Signs | None = None
        self.zfs = Zfs(world.timeline, world.random, node, world.pool_disks, self)
        self.kernel = Kernel(world.timeline, self._address)
        self.clock: Clock
        self.boot_id = ""

    # --- power ---

    def boot(self) -> None:
        if self.powered:
            return
        world = self.world
        self.powered, self.frozen, self.slow_s = True, False, 0.0
        self.zfs.frozen = False
        self._boots += 1
        self.boot_id = f"{self.node}{self._boots}"
        self.memory = None
        skew_ns = self.clock.wall_skew_ns if self._boots > 1 else 0
        self.clock = Clock(world.timeline, self._rate, world.random.random() * 1000)
        self.clock.wall_skew_ns = skew_ns
        world.trace.add(self.node, "boot")
        self.start_fenced()
        self.start_middlewared()
        self.start_carpd()

    def power_off(self) -> None:
        if not self.powered:
            return
        self.world.trace.add(self.node, "power-off")
        self.powered = False
        if self.signs is not None:
            self.signs.leave()
            self.signs = None
        self._end_middlewared(said=False)
        self._end_fenced()
        self.zfs.power_cut()
        self.kernel = Kernel(self.world.timeline, self._address)
        self.platter.power_cut()

    def power_cycle(self) -> None:
        """The other controller had its power cut; where it was off it stays so."""
        if self.powered:
            self.world.trace.add(self.node, "power-cycled")
            self.power_off()
            self.world.timeline.after(REBOOT_S, self.boot)

    def importing(self, guid: str) -> None:
        self.world.trace.add(self.node, "imports", guid=guid)
        self.world.watch.importing(self.node, guid)

    def imported(self, guid: str) -> None:
        self.world.trace.add(self.node, "imported", guid=guid)
        self.world.watch.imported(self.node, guid)

    def exporting(self, name: str) -> None:
        self.world.trace.add(self.node, "exports", name=name)
        self.world.watch.exporting(self.node, name)

    def _address(self, deed: Deed) -> None:
        if deed in ("take", "drop", "renew too late"):
            self.world.trace.add(self.node, f"address-{deed.replace(' ', '-')}")
        self.world.watch.address(self.node, deed)

    def end(self, why: str) -> None:
        """It ends itself, and boots again."""
        self.world.trace.add(self.node, "ends-itself", why=repr(why))
        self.world.timeline.after(0.0, self.power_off)
        self.world.timeline.after(REBOOT_S, self.boot)

    def _advert(self, word: Word, data: bytes) -> None:
        self.world.watch.advert(self.node, word, data)

    def freeze(self, frozen: bool) -> None:
        now = self.world.timeline.now
        if self.frozen and not frozen:
            self.world.watch.stood_still(self.node, now - self._frozen_at)
        elif frozen and not self.frozen:
            self._frozen_at = now
        self.frozen = self.zfs.frozen = frozen
        self.world.trace.add(self.node, "frozen" if frozen else "thawed")
        for process in (self.middlewared, self.fenced):
            if process is not None:
                process.loop.freeze(frozen)
        if self.signs is not None:
            self.signs.frozen = frozen

    def slow_down(self, lag_s: float) -> None:
        self.slow_s = lag_s
        if self.middlewared is not None:
            self.middlewared.loop.lag_s = lag_s

    # --- processes ---

    def start_middlewared(self) -> None:
        if self.powered and self.middlewared is None:
            self.world.trace.add(self.node, "start-middlewared")
            try:
                self.middlewared = Middlewared(self)
            except MiddlewareError as e:
                self.world.watch.halted(self.node, f"middlewared does not start: {e}")
                return
            self.middlewared.begin()

    def start_fenced(self) -> None:
        if self.powered and self.fenced is None:
            self.fenced = FencedProcess(self)

    def start_carpd(self) -> None:
        if not self.powered or self.signs is not None:
            return
        world = self.world
        self.signs = Signs(
            world.timeline,
            self.clock,
            self.boot_id,
            lambda: self.fenced.server if self.fenced is not None else None,
            world.network.path("beat", self.node),
            world.network.path("advert", self.node),
            world.network.path("lan", self.node),
            lambda: world.controllers[other(self.node)].signs,
            TIMING,
            self.kernel,
            self._advert,
        )
        self._advert("begins", b"")
        self.signs.run()
        self.signs.frozen = self.frozen

    def kill_middlewared(self, why: str) -> None:
        """The process dies, its kernel lives; init starts it again."""
        if self.middlewared is not None:
            self.world.trace.add(self.node, "middlewared-dies", why=repr(why))
            self._end_middlewared(said=True)
            self.world.timeline.after(RESTART_S, self.start_middlewared)

    def kill_fenced(self, why: str) -> None:
        if self.fenced is not None:
            self.world.trace.add(self.node, "fenced-dies", why=repr(why))
            self._end_fenced()
            self.world.timeline.after(RESTART_S, self.start_fenced)

    def kill_carpd(self) -> None:
        """Its kernel answers for the address until the lease ends."""
        if self.signs is not None:
            self.world.trace.add(self.node, "carpd-dies")
            self.signs.leave()
            self.signs = None
            self.world.timeline.after(RESTART_S, self.start_carpd)

    def _end_middlewared(self, *, said: bool) -> None:
        if self.middlewared is not None:
            self.middlewared.end(said=said)
            self.middlewared = None

    def _end_fenced(self) -> None:
        if self.fenced is not None:
            self.fenced.loop.kill()
            self.fenced.server.crash()
            self.fenced = None
