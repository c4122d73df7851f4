"""middlewared of a simulated controller: production code on a loop of its own, composed as middlewared/daemon.py does.

fenced is the other such process: fenced_process.py. Whoever watches the world is told by what stands between the parts.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path as File
from random import Random
from typing import TYPE_CHECKING, Protocol

from middlewared.config import Timing
from middlewared.engine.apply import Change, CommittedState
from middlewared.engine.care import Care
from middlewared.engine.drain import Drain
from middlewared.engine.engine import Engine
from middlewared.engine.line_ends import LineEnds
from middlewared.engine.own_pools import OwnPools
from middlewared.engine.peer import Peer
from middlewared.engine.registry import Registry
from middlewared.engine.replicate import Replicator, history
from middlewared.engine.succession import Succession
from middlewared.engine.tenure import Tenure
from middlewared.engine.told_pools import ToldPools
from middlewared.fenced.memory import Memory
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import START, Position, Record
from middlewared.kernel.facts import Node, PoolName
from middlewared.kernel.transition import Transition
from middlewared.plugin import Command
from middlewared.protocol import hub
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication import Replica
from middlewared.sim import noun
from middlewared.sim.carp import Kernel
from middlewared.sim.disk import Platter, SimLog, SimState, open_state, rebuild
from middlewared.sim.hub import FenceClient
from middlewared.sim.loop import Loop, MortalClock, Thread
from middlewared.sim.network import End, Network
from middlewared.sim.pools import PoolDisks
from middlewared.sim.signs import Signs
from middlewared.sim.timeline import Clock, Timeline
from middlewared.sim.trace import Trace
from middlewared.sim.voter import Disk
from middlewared.sim.watch import Watch
from middlewared.sim.zfs import Zfs

if TYPE_CHECKING:
    from middlewared.sim.fenced_process import FencedProcess

REGISTRY = Registry((noun.plugin,))
DIAL_S = 0.1
TIMING = Timing(
    settle_s=4.0,
    heartbeat_ms=100,
    heartbeat_dead_ms=350,
    advert_ms=100,
    advert_dead_count=4,
    disk_ms=200,
    disk_dead_ms=600,
    lease_s=1.5,
    renew_s=0.25,
    stall_s=0.75,
    held_s=2.0,
)
"""Three times the production windows: the rules are the same, and a virtual second costs less."""


class Machine(Protocol):
    """What a process needs of the controller that it runs on. middlewared, fenced: those that run now."""

    world: World
    node: Node
    platter: Platter
    clock: Clock
    boot_id: str
    frozen: bool
    slow_s: float
    memory: Memory | None
    middlewared: Middlewared | None
    fenced: FencedProcess | None
    signs: Signs | None
    kernel: Kernel
    zfs: Zfs

    def kill_middlewared(self, why: str) -> None: ...

    def kill_fenced(self, why: str) -> None: ...

    def end(self, why: str) -> None: ...

    def power_cycle(self) -> None: ...


class World(Protocol):
    """What a controller and its processes need of the world around them."""

    timeline: Timeline
    random: Random
    trace: Trace
    network: Network
    disks: list[Disk]
    loops: list[Loop]
    settings: hub.Settings
    pools: tuple[PoolName, ...]
    pool_disks: PoolDisks
    has_bmc: bool

    @property
    def controllers(self) -> Mapping[Node, Machine]: ...

    @property
    def watch(self) -> Watch: ...


Reply = Callable[[object], None]
"""Called with dispatch.Committed, or with the error that the command ended in."""


class MemoryTransitions:
    """engine.succession.Kept."""

    def __init__(self) -> None:
        self._kept: list[Transition] = []

    def all(self) -> tuple[Transition, ...]:
        return tuple(self._kept)

    def begin(self, transition: Transition) -> None:
        self._kept.append(transition)

    def go_on(self, transition: Transition) -> None:
        self._kept[-1] = transition


class Middlewared:
    """The production writer, log and machine on their own loop."""

    def __init__(self, controller: Machine) -> None:
        self.controller = controller
        self.node = controller.node
        self._world = world = controller.world
        self.loop = Loop(world.timeline, controller.clock, controller.kill_middlewared)
        world.loops.append(self.loop)
        self.loop.freeze(controller.frozen)
        self.loop.lag_s = controller.slow_s
        self._threads: list[Thread] = []
        self._ends: list[End] = []
        self.fence = FenceClient(
            world.timeline,
            self.loop,
            lambda: controller.fenced.server if controller.fenced is not None else None,
            world.settings,
        )
        self.loop.enter(self._compose)

    def _compose(self) -> None:
        controller, world = self.controller, self._world
        clock = MortalClock(controller.clock, self.loop)
        self.log = SimLog(controller.platter, self._stored)
        self.state = CommittedState(REGISTRY, open_state(controller.platter, REGISTRY), self.log, self._thread)
        self.state.follow(controller.platter.records[self.state.applied.seq :])
        if self.state.committed != START:
            world.watch.applied(self.node, self.state.committed)
        identity = frames.Identity(
            cluster_id="sim",
            node=self.node,
            catalogue=REGISTRY.catalogue.digest(),
            log_format_min=self.state.written_format(),
            features=frames.FEATURES,
        )
        state = self.state
        replica = Replica(identity, self.log.head(), history(self.log), state.committed, state.pair_seq, state.shape)
        self.tenure = Tenure(None, self.fence.begin, lambda: (), clock)
        self.fence.tell(self.tenure)
        self.engine = Engine(
            REGISTRY,
            self.state,
            clock,
            self.node,
            self.tenure,
            on_change=self._changed,
            on_cut=self._was_cut,
            on_fatal=controller.kill_middlewared,
        )
        self.replicator = Replicator(
            replica, self.log, clock, File("quarantine"), self.fence.write, Watched(self), threads=self._thread
        )
        self.engine.attach(self.replicator)
        self.replicator.care = WatchedCare(self, self.engine.care)
        self.tenure.attach(self.replicator)
        self._peer = Peer(clock)
        self._line = LineEnds(self.replicator, self._peer)
        self.succession = self._succeed(clock) if world.pools else None

    def _succeed(self, clock: MortalClock) -> Succession:
        pools = ToldPools(self.controller.zfs.of(self.loop), self.fence.pools, self.tenure.is_fenced)
        succession = Succession(
            self.node,
            clock,
            self.fence,
            OwnPools(pools, lambda: self._world.pools),
            Drain(self.engine, self.tenure, self.replicator),
            self._peer.ask,
            MemoryTransitions(),
            vips_up=lambda: self.controller.kernel.answers,
        )
        succession.others = _nothing_else
        self._peer.answer_by(succession.answer)
        self.fence.tell(succession)
        return succession

    def begin(self) -> None:
        self.fence.connect()
        if self.succession is not None:
            self.loop.spawn(self.succession.run)
        if self.node == "B":
            self._dial()

    def end(self, *, said: bool) -> None:
        """The process is dead. said: the kernel of its machine is not."""
        self.loop.kill()
        for thread in self._threads:
            thread.crash(self._world.random.random() < 0.5)
        self.fence.leave()
        for end in self._ends:
            if not end.closed:
                end.gone(said=said)

    @property
    def phase(self) -> str:
        side = self.replicator.replica.side
        return getattr(getattr(side, "phase", None), "value", "standby")

    # --- clients ---

    def serve(self, command: Command, request_id: str, actor: str, reply: Reply) -> None:
        """One command of a client; `reply` is called when it is answered, which may be never."""
        self.loop.spawn(self._serve, command, request_id, actor, reply)

    async def _serve(self, command: Command, request_id: str, actor: str, reply: Reply) -> None:
        try:
            reply(await self.engine.execute(command, actor=actor, origin="10.0.0.5:1", request_id=request_id))
        except MiddlewareError as e:
            reply(e)

    def force(self) -> None:
        """What failover.force_master does."""
        self.tenure.force_next()
        self.fence.force()

    def hand_over(self) -> None:
        """What failover.become_passive does."""
        if self.succession is not None:
            self.loop.spawn(self._hand_over, self.succession)

    async def _hand_over(self, succession: Succession) -> None:
        with suppress(MiddlewareError):
            await succession.hand_over("an operator asked for it", lambda _: None)

    # --- the line: network.Reader ---

    def _dial(self) -> None:
        if self.loop.dead:
            return
        self._world.timeline.after(DIAL_S, self._dial)
        peer = self._world.controllers["A"].middlewared
        network = self._world.network
        reachable = not (network.path("line", "A").cut or network.path("line", "B").cut)
        if peer is None or self.loop.frozen or peer.loop.frozen or not reachable:
            return
        if all(end.closed for end in self._ends):
            at_peer, here = network.connect(peer, self)
            peer._ends.append(at_peer)
            self._ends = [here]

    def line_up(self, end: End) -> None:
        for older in self._ends:
            if older is not end and not older.closed:
                older.gone(said=True)
        self._ends = [end]
        self.loop.call_soon(self._line.up, end)

    def line_got(self, end: End, frame: frames.LineFrame) -> None:
        self.loop.call_soon(self._line.got, end, frame)

    def line_down(self, end: End) -> None:
        self.loop.call_soon(self._line.down, end)

    # --- the disk ---

    def _thread(self, name: str) -> Executor:
        platter = self.controller.platter
        delay_s = platter.quick_s if name.endswith("reader") else platter.delay_s
        thread = Thread(self._world.timeline, self.loop, delay_s)
        self._threads.append(thread)
        return thread

    def _stored(self, records: Sequence[Record]) -> None:
        self._world.watch.stored(self.node, records)

    def _changed(self, changes: list[Change]) -> None:
        self._world.watch.applied(self.node, changes[-1].record.position)

    async def _was_cut(self, at: Position, count: int, applied: bool) -> None:
        if applied:
            await self.state.replace(lambda: self._rebuilt(at.seq))
            self._world.watch.applied(self.node, self.state.applied)

    def _rebuilt(self, upto: int) -> SimState:
        rebuild(self.controller.platter, REGISTRY, upto)
        return SimState(self.controller.platter, REGISTRY.nouns.values())


async def _nothing_else(method: str, _: Sequence[object]) -> object:
    raise CallFailed(errno.EOPNOTSUPP, f"no question {method} in this world")


class Watched:
    """engine.replicate.Listener: the engine, and whoever watches the world."""

    def __init__(self, middlewared: Middlewared) -> None:
        self._middlewared = middlewared
        self._engine = middlewared.engine
        self._node = middlewared.node
        self._world = middlewared.controller.world

    def storing(self, records: tuple[Record, ...]) -> None:
        if records[0].origin == self._node and records[0].term == self._middlewared.replicator.replica.term:
            self._world.watch.proposed(self._node, records)
        self._engine.storing(records)

    def stored(self, groups: int) -> None:
        self._engine.stored(groups)

    def committed(self, commit_seq: int, pair_seq: int) -> None:
        self._world.watch.committed(self._node, commit_seq, pair_seq)
        self._engine.committed(commit_seq, pair_seq)

    def opened(self, term: int, adopted: int) -> None:
        self._world.trace.add(self._node, "opened", term=term, adopted=adopted)
        self._engine.opened(term, adopted)

    def closed(self, why: str) -> None:
        self._world.trace.add(self._node, "closed", why=repr(why))
        self._engine.closed(why)

    async def was_cut(self, at: Position, count: int) -> None:
        self._world.trace.add(self._node, "cut", after=at.seq, count=count)
        await self._engine.was_cut(at, count)

    def halted(self, why: str) -> None:
        self._world.watch.halted(self._node, why)
        self._engine.halted(why)

    def fatal(self, why: str) -> None:
        self._engine.fatal(why)


class WatchedCare:
    """engine.replicate.Care: the real one, and whoever watches the world."""

    def __init__(self, middlewared: Middlewared, care: Care) -> None:
        self._middlewared = middlewared
        self._care = care

    def perform(self, action: values.OfState) -> None:
        if isinstance(action, values.Differs):
            self._middlewared.controller.world.watch.differs(self._middlewared.node, action.what.seq)
        self._care.perform(action)
