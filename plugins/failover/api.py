"""The methods of `failover`."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from middlewared.kernel.facts import Node, other
from middlewared.plugin import Call, command, local, query

from . import settings

# Until `system.license` exists there is one answer, given here.
LICENSED = True


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`failover.config` as clients know it. master: the controller that answers is the default."""

    id: int
    disabled: bool
    master: bool
    timeout: int


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. timeout: seconds, 0-120."""

    disabled: bool | UnsetType = UNSET
    master: bool | UnsetType = UNSET
    timeout: int | UnsetType = UNSET


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """count: records that lie in quarantine on this controller and about which nobody has decided."""

    count: int


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where both logs and both states are, as this controller knows it; peer_*: as last acknowledged, on the owner.

    lag_events, lag_ms: what the standby has not applied, and how long the oldest of it has been waiting; on the
    standby: of what is committed, and how long it has not known itself to be level with the owner.
    digest_equal_at_seq: where the two states were last found equal, 0 if they never were since this daemon started.
    state_differs: the first row that was found to differ, until the states are found equal at a later seq.
    """

    term: int
    last_seq: int
    commit_seq: int
    applied_seq: int
    peer_durable_seq: int
    peer_applied_seq: int
    lag_events: int
    lag_ms: int
    in_sync: tuple[Node, ...]
    peer_connected: bool
    peer_refused: str | None
    apply_blocked: str | None
    peer_apply_blocked: str | None
    config_behind: str | None
    state_digest: str
    digest_at_seq: int
    digest_equal_at_seq: int
    state_differs: str | None
    quarantine: Quarantine


@query("failover.config", roles=("FAILOVER_READ",))
async def config(call: Call) -> Entry:
    """The failover settings; `master` is true where the answering controller is the default one."""
    return _entry(call)


def _entry(call: Call) -> Entry:
    state = call.state(settings.NOUN)
    return Entry(id=1, disabled=state.disabled, master=state.default_node == call.node, timeout=state.timeout_s)


@command("failover.update", takes="failover_update", roles=("FAILOVER_WRITE",))
async def update(call: Call, failover_update: UpdateRequest) -> Entry:
    """Switch failover off or on, make this controller the default or the other, set the timeout.

    It is not switched on where no interface is critical and none has a virtual address.
    """
    master = failover_update.master
    default_node: Node | UnsetType = UNSET
    if master is not UNSET:
        default_node = call.node if master else other(call.node)
    await call.execute(
        settings.Update(
            disabled=failover_update.disabled,
            default_node=default_node,
            timeout_s=failover_update.timeout,
            critical=await call.query("network.vip.config") is not None,
        )
    )
    return _entry(call)


@query("failover.status", public=True)
async def status(call: Call) -> str:
    """SINGLE, MASTER, BACKUP, ELECTING, IMPORTING or ERROR, of the controller that answers."""
    return call.controller.facts().status


@query("failover.node", roles=("FAILOVER_READ",))
async def node(call: Call) -> Node:
    """Which controller answers: A or B."""
    return call.node


@query("failover.get_ips", public=True)
async def get_ips(call: Call) -> list[str]:
    """Where the active controller answers."""
    return list(call.controller.facts().active_urls)


@query("failover.licensed", public=True)
async def licensed(call: Call) -> bool:
    """Whether this system may form a pair."""
    return LICENSED


@query("failover.sync.status", roles=("FAILOVER_READ",))
async def sync_status(call: Call) -> SyncStatus:
    """How far each log is, who is in sync, and the digest of this controller's state."""
    seq, digest = await call.state_digest()
    facts = call.controller.facts()
    return SyncStatus(
        term=facts.term,
        last_seq=facts.last_seq,
        commit_seq=facts.commit_seq,
        applied_seq=facts.applied_seq,
        peer_durable_seq=facts.peer_durable_seq,
        peer_applied_seq=facts.peer_applied_seq,
        lag_events=facts.lag_events,
        lag_ms=facts.lag_ms,
        in_sync=facts.in_sync,
        peer_connected=facts.peer_connected,
        peer_refused=facts.peer_refused,
        apply_blocked=facts.apply_blocked,
        peer_apply_blocked=facts.peer_apply_blocked,
        config_behind=facts.behind,
        state_digest=digest,
        digest_at_seq=seq,
        digest_equal_at_seq=facts.digest_equal_at_seq,
        state_differs=facts.state_differs,
        quarantine=Quarantine(count=facts.quarantined),
    )


@local("failover.force_master", roles=("FAILOVER_WRITE",))
async def force_master(call: Call) -> None:
    """Make this controller the active one, whatever failover would wait for.

    It takes the shared disks from the other controller. Where this controller's log is known to lack answered writes,
    they are given up: the other controller will set them aside in its quarantine when it returns. Where there are no
    shared disks nothing stops the other controller from being active too: be sure that it is off.
    """
    await call.controller.force_master()


@local("failover.pair.open", local_only=True)
async def open_pairing(call: Call) -> str:
    """A code with which the other controller may join, good once and for ten minutes."""
    return await call.controller.open_pairing()


@local("failover.pair.join", local_only=True)
async def join(call: Call, code: str, host: str, discard_mine: bool = False) -> None:
    """Join the controller at `host` that printed `code`. The configuration becomes the other's.

    discard_mine: set this controller's own log aside although somebody has configured it.
    """
    await call.controller.join(code, host, discard_mine)


METHODS = (
    config,
    update,
    status,
    node,
    get_ips,
    licensed,
    sync_status,
    force_master,
    open_pairing,
    join,
)
