"""This controller, as plugins ask about it and ask of it: plugin.Controller."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from middlewared import plugin
from middlewared.engine.alerts import Alerts
from middlewared.engine.apply import CommittedState
from middlewared.engine.aside import SetAside
from middlewared.engine.outlook import PairOutlook
from middlewared.engine.peer import Peer
from middlewared.engine.pool_watch import PoolWatch
from middlewared.engine.reconcile import Reconciler
from middlewared.engine.replicate import Replicator
from middlewared.engine.tenure import Tenure
from middlewared.kernel.errors import CallFailed, ConfigBehind
from middlewared.kernel.facts import Node, SharedDisk, Sighting, VipState
from middlewared.kernel.secret import Sealed
from middlewared.plugin import Alert, Aside, ControllerFacts, Outlook, PeerBuild
from middlewared.ports import Audit, Clock, Disks, OwnedPools, SecretStore, Upkeep
from middlewared.protocol import builds, hub
from middlewared.protocol.peer_calls import TIMEOUT_S
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_owner import Owner, Phase

FORCE_TIMEOUT_S = 15.0
HEARD_S = 0.6
"""A dozen heartbeats: at 30 % loss as many are missed in a row less than once a day. fenced speaks each 0.5 s."""

Status = Literal["SINGLE", "MASTER", "BACKUP", "ELECTING", "IMPORTING", "ERROR"]


class Succession(plugin.Succession, Protocol):
    """engine.succession.Succession."""

    @property
    def promoting(self) -> bool: ...

    @property
    def leaving(self) -> str | None: ...


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the process runs."""

    node: Node
    version: str
    boot_id: str
    paired: bool
    voters: int


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """How the other controller is found; given by the composition root."""

    open: Callable[[], Awaitable[str]]
    join: Callable[[str, str, bool], Awaitable[None]]


class ThisController:
    """Reads its facts at the instant that it is asked."""

    def __init__(
        self,
        build: Build,
        clock: Clock,
        tenure: Tenure,
        replicator: Replicator,
        state: CommittedState,
        *,
        reconciler: Callable[[], Reconciler],
        vips: Callable[[], tuple[VipState, ...]],
        sightings: Callable[[], tuple[Sighting, ...]] = lambda: (),
        stood_still_s: Callable[[], float] = lambda: 0.0,
        aside: SetAside,
        succession: Succession,
        force: Callable[[], None],
        pairing: Pairing,
        heard: Callable[[], hub.Seen | None],
        configured_pools: Callable[[], tuple[str, ...]],
        imported_pools: Callable[[], tuple[str, ...]],
        alerts: Alerts,
        peer: Peer,
        upkeep: Upkeep,
        audit: Audit,
        secrets: SecretStore,
        disks: Disks,
        pools: OwnedPools | None,
        pool_watch: PoolWatch,
    ) -> None:
        self.node = build.node
        self._build = build
        self._clock = clock
        self._tenure = tenure
        self._replicator = replicator
        self._state = state
        self._reconciler = reconciler
        self._vips = vips
        self._sightings = sightings
        self._stood_still_s = stood_still_s
        self.aside: Aside = aside
        self._aside = aside
        self.succession: plugin.Succession = succession
        self._succession = succession
        self._force = force
        self._pairing = pairing
        self._alerts = alerts
        self._peer = peer
        guids = (configured_pools, imported_pools)
        self.pair_outlook = PairOutlook(build.node, clock, self.facts, heard, *guids, peer.ask)
        self.outlook: Outlook = self.pair_outlook
        self.upkeep = upkeep
        self.audit = audit
        self.secrets = secrets
        self.disks = disks
        self.pools = pools
        self._pool_watch = pool_watch

    def held_secrets(self) -> Mapping[str, Mapping[str, Sealed | str]]:
        """What every noun that declares secrets holds, as far as it is committed."""
        return self._state.held_secrets()

    def facts(self) -> ControllerFacts:
        replica = self._replicator.replica
        owner = replica.side if isinstance(replica.side, Owner) else None
        standing = self._tenure.standing
        record = standing.record if standing is not None else None
        now = self._clock.boottime()
        lag_events, lag_s = replica.side.behind(now)
        facts = ControllerFacts(
            node=self.node,
            version=self._build.version,
            boot_id=self._build.boot_id,
            uptime_s=now,
            wall_ns=self._clock.wall_ns(),
            status=self.status(),
            term=max(replica.term, standing.term if standing is not None else 0),
            since_s=now - standing.since if standing is not None else 0.0,
            why=replica.halted or self._tenure.why(),
            halted=replica.halted,
            behind=self._behind(owner) if owner is not None else None,
            paired=self._build.paired,
            in_sync=tuple(sorted(owner.synced)) if owner is not None else record.in_sync if record is not None else (),
            last_seq=replica.log.head.seq,
            commit_seq=replica.log.committed.seq,
            applied_seq=self._state.applied.seq,
            peer_connected=replica.line.greeted,
            peer_heard=self._peer_heard(now),
            peer_refused=replica.line.refused,
            peer_apart=replica.line.apart,
            log_format=self._state.log_format,
            peer=_peer_build(replica),
            peer_durable_seq=owner.acked.seq if owner is not None and owner.acked is not None else 0,
            peer_applied_seq=owner.peer_applied_seq if owner is not None else 0,
            peer_apply_blocked=(owner.peer_blocked or None) if owner is not None else None,
            lag_events=lag_events,
            lag_ms=round(lag_s * 1000),
            digest_equal_at_seq=replica.agreement.equal_at,
            state_differs=self._state_differs(),
            quarantined=self._aside.undecided,
            apply_blocked=self._state.blocked,
            no_room=self._replicator.no_room(),
            log_damaged=str(damage) if (damage := self._replicator.damage) is not None else None,
            disks_ok=sum(voter.reachable for voter in standing.voters) if standing is not None else 0,
            disks_total=len(standing.voters) if standing is not None else self._build.voters,
            disks=self._pool_watch.serials,
            pool_fault=self._pool_watch.fault,
            pools_degraded=self._pool_watch.degraded,
            serves=standing is not None and standing.serves,
            leaving=self._succession.leaving or (standing.leaving if standing is not None else None),
            failed=standing.failed if standing is not None else None,
            active_urls=self._tenure.active_urls(),
            vip_states={vip.address: vip.state for vip in self._vips()},
            vips=self._vips(),
            sightings=self._sightings(),
            stood_still_s=self._stood_still_s(),
            effects={outcome.effect: outcome.why for outcome in self._reconciler().outcomes()},
        )
        return facts if standing is None else _with_standing(facts, standing)

    def _behind(self, owner: Owner) -> str | None:
        """Why this owner writes nothing: its log lacks what was answered, or holds what it cannot read."""
        return owner.why if owner.phase is Phase.BEHIND else self._state.blocked

    def _state_differs(self) -> str | None:
        if self._state.differs is None:
            return None
        seq, what = self._state.differs
        return what if seq >= self._replicator.replica.agreement.equal_at else None

    def status(self) -> Status:
        replica = self._replicator.replica
        if replica.halted is not None:
            return "ERROR"
        standing = self._tenure.standing
        if standing is not None and standing.failed is not None:
            return "ERROR"
        if self._tenure.is_standby():
            return "BACKUP"
        if self._succession.promoting and standing is not None and not standing.serves:
            return "IMPORTING"
        if isinstance(replica.side, Owner) and self._serves(replica.side):
            return "SINGLE" if replica.side.alone else "MASTER"
        return "ELECTING"

    def _serves(self, owner: Owner) -> bool:
        """Open with its first record committed, or open for reading only."""
        return self._behind(owner) is not None or self._replicator.replica.log.committed.term == owner.term

    def _peer_heard(self, now: float) -> bool:
        """By its heartbeats on the interlink, which a standby sends too; a line that is open may lead nowhere."""
        standing = self._tenure.standing
        if standing is None or standing.peer_interlink_at is None:
            return False
        heard_at = standing.said_at if standing.peer_heard else standing.peer_interlink_at
        return now - heard_at < HEARD_S

    def alerts(self, theirs: Sequence[Alert] | None = None) -> list[Alert]:
        """What an operator must know; see plugin.Controller."""
        facts = msgspec.structs.replace(self.facts(), disagreements=self.pair_outlook.disagreements())
        own = self._alerts.look(facts)
        return self._alerts.joined(own, theirs) if theirs is not None else own

    def dismiss_alert(self, id_: str, *, dismissed: bool) -> None:
        """Have an alert shown as read, on this controller; forgotten when what it tells is over, or at a restart."""
        self._alerts.dismiss(id_, dismissed=dismissed)

    async def force_master(self) -> None:
        """Claim the term whatever the rules would wait for.

        Raises CallFailed when the voters refuse, and ConfigBehind where this controller cannot read its log and the
        other one is there.
        """
        if not self._build.paired:
            raise CallFailed(errno.EINVAL, "This controller was never paired; it is the only one")
        side = self._replicator.replica.side
        if isinstance(side, Owner) and side.phase is Phase.OPEN and self.status() == "MASTER":
            return
        if self._state.blocked is not None and self._replicator.replica.line.greeted:
            raise ConfigBehind(f"{self._state.blocked}; the other controller is there and may own")
        before = self._replicator.replica.term
        self._tenure.force_next()
        self._force()
        try:
            async with asyncio.timeout(FORCE_TIMEOUT_S):
                while self.status() != "MASTER" or self._replicator.replica.term <= before:
                    self._tenure.changed.clear()
                    try:
                        async with asyncio.timeout(0.1):
                            await self._tenure.changed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise CallFailed(errno.ETIMEDOUT, f"The term was not gained: {self._tenure.why()}") from None

    async def open_pairing(self) -> str:
        """A one-time code with which the other controller may join, valid for ten minutes."""
        return await self._pairing.open()

    async def join(self, code: str, host: str, discard_mine: bool) -> None:
        """Join the controller at `host` that printed `code`. Raises Refused or CallFailed."""
        await self._pairing.join(code, host, discard_mine)

    async def ask_peer(self, method: str, *params: object, timeout_s: float = TIMEOUT_S) -> object:
        """Ask the other controller a small question; see plugin.Controller."""
        if not self._build.paired:
            raise CallFailed(errno.ENOTCONN, "This controller was never paired: there is no other one to ask")
        return await self._peer.ask(method, *params, timeout_s=timeout_s)


def _peer_build(replica: Replica) -> PeerBuild | None:
    mine, theirs = replica.identity, replica.line.peer
    if theirs is None:
        return None
    return PeerBuild(version=theirs.version, age=builds.age(mine, theirs), log_format_max=theirs.log_format_max)


def _with_standing(facts: ControllerFacts, standing: hub.Standing) -> ControllerFacts:
    return msgspec.structs.replace(
        facts,
        peer_last_heard_ms=_last_heard_ms(standing),
        ended=standing.ended.why if standing.ended is not None else None,
        ended_often=standing.held,
        shared_disks=_shared_disks(standing),
        voting=standing.voting,
        peer_voting=standing.peer_voting,
        flapping=standing.flapping,
    )


def _last_heard_ms(standing: hub.Standing) -> dict[str, int | None]:
    def ago_ms(at: float | None) -> int | None:
        return None if at is None else max(0, round((standing.said_at - at) * 1000))

    return {
        "interlink": ago_ms(standing.peer_interlink_at),
        "adverts": ago_ms(standing.peer_advert_at),
        "disks": ago_ms(standing.peer_disk_at),
    }


def _shared_disks(standing: hub.Standing) -> tuple[SharedDisk, ...]:
    changing = any(1 in voter.sets for voter in standing.voters)
    return tuple(
        SharedDisk(
            serial=disk.name,
            sets=disk.sets,
            changing=changing,
            reachable=disk.reachable,
            owner=disk.owner,
            term=disk.term,
            keeps=disk.keeps,
            slots_of=disk.whose,
            error=disk.why,
            slots_error=disk.slots_error,
        )
        for disk in (*standing.voters, *standing.others)
    )
