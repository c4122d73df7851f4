"""The composition root: the only place that knows every floor. It builds the parts, starts them, and ends them.

Order of the start: the data directory is locked; keys, log and state are opened; the machine is put on the log; the API
listens; fenced is spoken to, and with what it says the first role comes. A part that cannot start ends the process with
one line that names the file or address and the reason.

The daemon ends itself to begin anew in three cases: it was told to (SIGTERM), the log cannot be written, or it has
become one of a pair. Init starts it again within 100 ms.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from middlewared import __version__
from middlewared.config import BootFile, Interlink
from middlewared.engine import registry as plugins
from middlewared.engine.alerts import Alerts
from middlewared.engine.announce import Announcer
from middlewared.engine.apply import Change
from middlewared.engine.aside import SetAside
from middlewared.engine.audit import AuditTrail
from middlewared.engine.bus import Bus
from middlewared.engine.controller import Build, Pairing, ThisController
from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.drain import Drain
from middlewared.engine.duties import Duties
from middlewared.engine.engine import Engine
from middlewared.engine.jobs import Jobs
from middlewared.engine.line_ends import LineEnds
from middlewared.engine.loop_lag import LoopLag
from middlewared.engine.own_pools import OwnPools
from middlewared.engine.peer import Peer, Questions
from middlewared.engine.pool_watch import PoolWatch
from middlewared.engine.reconcile import EffectView, Reconciler
from middlewared.engine.repair import Repairer, Snapshots
from middlewared.engine.replicate import Replicator, history
from middlewared.engine.start import committed_state, rebuilt, refuse_own_events
from middlewared.engine.succession import Succession
from middlewared.engine.tenure import Tenure
from middlewared.engine.told_pools import ToldPools
from middlewared.kernel.errors import BadBootFile, CallFailed
from middlewared.kernel.event import Position
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.replication import Replica
from middlewared.protocol.subscription import Cursor
from middlewared.shell import pairing
from middlewared.shell.boot_id import this_boot
from middlewared.shell.clock import SystemClock
from middlewared.shell.disks import BlockDisks
from middlewared.shell.fence_client import FenceClient, no_disks
from middlewared.shell.host import EtcHost
from middlewared.shell.identity import Cluster, Keys
from middlewared.shell.keyring import Keyring
from middlewared.shell.notify import Init
from middlewared.shell.peer_link import PeerLink
from middlewared.shell.upkeep import Upkeep
from middlewared.shell.websocket import ApiServer
from middlewared.shell.zfs.zfs_fuse import ZfsFuse
from middlewared.store.aside import set_aside
from middlewared.store.audit import AuditStore
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.room import Room
from middlewared.store.transitions import Transitions

log = logging.getLogger(__name__)

REPLY_GRACE_S = 0.3
NO_DISKS = "/nonexistent"


class Daemon:
    """One controller's middlewared. Built inside the running loop; raises BadBootFile, LogDamaged, PortFailed."""

    def __init__(self, boot: BootFile) -> None:
        self._boot = boot
        self._data = Path(boot.data_dir)
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._door: pairing.PairingDoor | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._lock = DataDirectory(self._data)
        self._keys = Keys(self._data, boot.node)
        self._cluster = self._keys.cluster
        self._keyring = Keyring(self._keys)
        self._clock = SystemClock()
        self._init = Init()
        self._host = EtcHost(interlink=boot.interlink.interface if boot.interlink else "")
        self._registry = plugins.load()
        self._open_stores()
        self._put_machine_on_log()
        self._compose()

    def _open_stores(self) -> None:
        self._log = LogStore.open(self._data / "log.db")
        self._state = committed_state(self._registry, self._log, self._data / "state.db")

    def _put_machine_on_log(self) -> None:
        boot = self._boot
        identity = frames.Identity(
            cluster_id=self._cluster.cluster_id if self._cluster else "",
            node=boot.node,
            catalogue=self._registry.catalogue.digest(),
            log_format_min=self._state.written_format(),
            features=frames.FEATURES,
            version=__version__,
            secret_keys=self._keyring.ids(),
        )
        head = self._log.head()
        state = self._state
        replica = Replica(identity, head, history(self._log), state.committed, state.pair_seq, state.shape)
        self._keyring.on_change = replica.holds
        # A pair's next term must be above every term in this log; standing alone is such a term itself.
        single_term = head.term if self._cluster is not None else head.term + 1
        self._fence = FenceClient(boot.fenced_socket, self._cluster, single_term)
        self._tenure = Tenure(None if self._cluster else single_term, self._fence.begin, self._active_urls, self._clock)
        self._fence.tell(self._tenure)
        self._engine = Engine(
            self._registry,
            self._state,
            self._clock,
            boot.node,
            self._tenure,
            on_change=self._changed,
            on_cut=self._cut,
            on_fatal=self._fatal,
        )
        write_record = self._fence.write if boot.voters is not None else no_disks
        room = Room(self._data, boot.storage.free_floor_mib << 20, self._clock.boottime)
        self._replicator = Replicator(
            replica, self._log, self._clock, self._data / "quarantine", write_record, self._engine, room.why_not
        )
        self._engine.attach(self._replicator)
        self._tenure.attach(self._replicator)
        self._aside = SetAside(boot.node, self._log, self._data / "quarantine", self._registry, self._engine)

    def _compose(self) -> None:
        boot = self._boot
        self._bus = Bus(self._engine)
        self._reconciler = Reconciler(
            self._registry.effects, EffectView(boot.node, self._engine, self._host, self._fence, self._aside)
        )
        self._peer = Peer(self._clock)
        self._succeed()
        self._show()
        self._answer()
        self._keep_state_right()

    def _show(self) -> None:
        """What the methods see of this controller."""
        boot = self._boot
        build = Build(
            node=boot.node,
            version=__version__,
            boot_id=this_boot(),
            paired=self._cluster is not None,
            voters=len(boot.voters.paths) if boot.voters else 0,
        )
        self._trail = AuditTrail(
            AuditStore.open(self._data / "audit.db"),
            self._log,
            lambda: self._state.history,
            self._registry,
            self._clock,
        )
        disks = BlockDisks(Path(boot.pools.disks if boot.pools is not None else NO_DISKS))
        self._pool_watch = PoolWatch(self._pools, disks, self._fence.pool_fault)
        self._loop_lag = LoopLag(self._clock)
        self._controller = ThisController(
            build,
            self._clock,
            self._tenure,
            self._replicator,
            self._state,
            reconciler=lambda: self._reconciler,
            vips=lambda: self._fence.carp.vips if self._fence.carp else (),
            sightings=lambda: self._fence.carp.sightings if self._fence.carp else (),
            stood_still_s=lambda: self._loop_lag.worst_s,
            aside=self._aside,
            succession=self._succession,
            force=self._fence.force,
            heard=lambda: self._fence.seen,
            configured_pools=lambda: tuple(pool.guid for pool in self._fence.configured_pools or ()),
            imported_pools=lambda: self._fence.imported_pools,
            pairing=Pairing(open=self._open_pairing, join=self._join),
            alerts=Alerts(boot.node, self._registry.alert_sources),
            peer=self._peer,
            upkeep=Upkeep(self._data, boot.node),
            audit=self._trail,
            secrets=self._keyring,
            disks=disks,
            pools=self._pools,
            pool_watch=self._pool_watch,
        )

    def _answer(self) -> None:
        self._jobs = Jobs(self._clock, self._bus.publish)
        self._dispatcher = Dispatcher(
            self._registry,
            self._engine,
            node=self._boot.node,
            controller=self._controller,
            host=self._host,
            bus=self._bus,
            jobs=self._jobs,
            trail=self._trail,
        )
        self._announcer = Announcer(self._registry.announcements, self._dispatcher.ask, self._bus)
        self._api = ApiServer(self._dispatcher, self._bus, self._boot, files=self._dispatcher.downloads)

    def _succeed(self) -> None:
        self._pools = None
        if self._boot.pools is not None:
            store = ZfsFuse(Path(self._boot.pools.disks))
            self._pools = ToldPools(store, self._fence.pools, self._tenure.is_fenced)
        self._succession = Succession(
            self._boot.node,
            self._clock,
            self._fence,
            OwnPools(self._pools, lambda: self._fence.configured_pools),
            Drain(self._engine, self._tenure, self._replicator),
            self._peer.ask,
            Transitions(self._data / "transitions.jsonl"),
            vips_up=lambda: self._fence.carp is not None and any(v.state == "MASTER" for v in self._fence.carp.vips),
        )
        self._fence.tell(self._succession)

    def _keep_state_right(self) -> None:
        path = self._data / "state.db"
        self._snapshots = Snapshots(self._state, self._registry, path, Questions(self._dispatcher))
        self._peer.answer_by(self._succession.answer)
        self._succession.others = self._snapshots.answer
        self._engine.care.repairer = self._repairer = Repairer(
            self._state,
            self._log,
            self._registry,
            path,
            self._peer,
            self._clock,
            self._replicator.replica,
            feed=self._replicator.feed,
            resume=self._repaired,
        )

    def _repaired(self) -> None:
        self._engine.resume()
        self._reconciler.changed(self._registry.nouns)

    # --- the life of the process ---

    async def run(self) -> int:
        """Serve until the process must end. Returns its exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0)
        try:
            await self._api.start()
            self._reconciler.start()
            self._spawn(self._fence.run())
            self._spawn(self._succession.run())
            self._spawn(self._announcer.run())
            self._spawn(self._pool_watch.run())
            self._spawn(self._loop_lag.run())
            self._spawn(self._controller.pair_outlook.run())
            self._spawn(Duties(self._registry.duties, self._engine, self._controller).run())
            self._spawn(self._init.keep_alive())
            if self._cluster is not None and self._boot.interlink is not None:
                ends = LineEnds(self._replicator, self._peer)
                self._spawn(PeerLink(self._boot.node, self._boot.interlink, self._keys, ends).run())
            self._init.say("READY=1")
            log.info("event=ready node=%s version=%s", self._boot.node, __version__)
            return await self._over
        finally:
            await self._stop()

    async def _stop(self) -> None:
        self._init.say("STOPPING=1")
        if self._door is not None:
            self._door.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._api.stop()
        await self._jobs.close()
        await self._reconciler.close()
        await self._host.close()
        await self._close_stores()

    async def _close_stores(self) -> None:
        await self._trail.close()
        await self._replicator.close()
        self._repairer.close()
        self._snapshots.close()
        await self._state.close()
        self._log.close()
        self._lock.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._task_over)
        self._tasks.append(task)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        """A part of the daemon that ends of itself ends the daemon: half of it must not go on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical("event=ending why=%r", str(error), exc_info=None if isinstance(error, BadBootFile) else error)
        self._end(1)

    def _end(self, status: int) -> None:
        if not self._over.done():
            self._over.set_result(status)

    def _fatal(self, why: str) -> None:
        log.critical("event=ending why=%r", why)
        self._end(1)

    # --- what changed ---

    def _changed(self, changes: list[Change]) -> None:
        """After a commit: effects, subscribers."""
        self._reconciler.changed({change.noun for change in changes if change.noun is not None})
        self._bus.applied(changes[0].record.seq, changes[-1].record.seq)
        for change in changes:
            if change.noun is not None:
                self._bus.committed(change.noun, change.record.kind, Cursor(change.record.seq, change.record.term))
        self._announcer.look()

    async def _cut(self, at: Position, _: int, applied: bool) -> None:
        """Records went to quarantine. Where some were applied, the state is folded again without them."""
        self._aside.refresh()
        if not applied:
            return
        await self._state.replace(lambda: rebuilt(self._registry, self._log, self._data / "state.db", at.seq))
        self._bus.cut(at.seq)
        self._reconciler.changed(self._registry.nouns)

    def _active_urls(self) -> tuple[str, ...]:
        _, port = self._boot.listen_address
        suffix = "" if port == 80 else f":{port}"
        hosts = (f"[{vip.address}]" if ":" in vip.address else vip.address for vip in self._fence.vips)
        return tuple(f"http://{host}{suffix}" for host in hosts)

    # --- pairing ---

    def _interlink(self) -> Interlink:
        if self._boot.interlink is None:
            raise CallFailed(errno.EINVAL, "The boot file of this controller has no [interlink]")
        return self._boot.interlink

    async def _open_pairing(self) -> str:
        interlink = self._interlink()
        if self._door is not None:
            self._door.close()
        cluster = self._cluster or Cluster.new()
        self._door = pairing.PairingDoor(
            self._boot.node, self._keys, cluster, interlink, lambda: self._begin_anew("paired")
        )
        return await self._door.open()

    async def _join(self, code: str, host: str, discard_mine: bool) -> None:
        interlink = self._interlink()
        if not discard_mine:
            refuse_own_events(self._log)
        emptied = False

        async def make_room() -> None:
            nonlocal emptied
            emptied = True
            await self._set_log_aside()

        try:
            await pairing.join(self._boot.node, self._keys, code, host, interlink, make_room)
        finally:
            if emptied:
                self._begin_anew("joined")

    async def _set_log_aside(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._replicator.close()
        await self._state.close()
        self._log.close()
        set_aside(self._data)

    def _begin_anew(self, why: str) -> None:
        """End, so that init starts this controller as one of a pair; the reply of this moment goes out first."""
        log.info("event=beginning_anew why=%s", why)
        asyncio.get_running_loop().call_later(REPLY_GRACE_S, self._end, 0)


async def serve(boot: BootFile) -> int:
    """Run the daemon. Returns the exit status; raises MiddlewareError when it cannot start."""
    return await Daemon(boot).run()
