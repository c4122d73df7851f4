"""The daemon's side of fenced's socket: it states the settings, asks, and hands on what fenced says.

It is also the port `Fence` of effects: vips and policy are kept here and stated whole, each time fenced (re)appears.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import FailoverGroup, Node, PairRecord, PoolName, Vip, Voting
from middlewared.protocol import hub
from middlewared.shell.hub_client import HubClient
from middlewared.shell.identity import Cluster

WRITE_TIMEOUT_S = 1.0


class Listener(Protocol):
    """Who must know what fenced says."""

    def heard(self, standing: hub.Standing) -> None: ...

    def lost(self) -> None:
        """The socket to fenced is closed."""
        ...


class FenceClient:
    """Speaks to fenced for the daemon.

    cluster None: never paired; `single_term` is then the term in which this controller stands alone.
    """

    def __init__(self, path: str, cluster: Cluster | None, single_term: int) -> None:
        self._cluster = cluster
        self._single_term = single_term
        self._listeners: list[Listener] = []
        self._vips: tuple[Vip, ...] | None = None
        self._groups: tuple[FailoverGroup, ...] = ()
        self._lagg = False
        self._policy: tuple[bool, Node, float] | None = None
        self._voting: Voting | None = None
        self.configured_pools: tuple[PoolName, ...] | None = None
        """None: not stated yet."""
        self._pools: hub.Pools | None = None
        self._writes: dict[int, asyncio.Future[bool]] = {}
        self._ids = 0
        self.carp: hub.Carp | None = None
        self.seen: hub.Seen | None = None
        self._client = HubClient(path, "middlewared", on_message=self._take, on_up=self._state_all, on_down=self._lost)

    def tell(self, listener: Listener) -> None:
        """Give one who must know; before `run`. They are told in the order in which they were given."""
        self._listeners.append(listener)

    @property
    def vips(self) -> tuple[Vip, ...]:
        return self._vips or ()

    async def run(self) -> None:
        await self._client.run()

    def begin(self) -> None:
        """Ask for a new term, if this controller owns."""
        self._client.send(hub.Begin())

    def force(self) -> None:
        """Claim whatever the rules would wait for. Raises PortFailed when fenced is not there."""
        if not self._client.send(hub.Force()):
            raise PortFailed("claim the term", "fenced is not running")

    def pools(self, imported: Sequence[str], fault: str | None = None) -> None:
        """State the pools that this controller has, or is about to have; stated again whenever fenced reappears.

        fault None: as it was told last, as long as there is a pool.
        """
        known = self._pools.fault if self._pools is not None and imported else None
        self._pools = hub.Pools(imported=tuple(imported), fault=fault or known)
        self._client.send(self._pools)

    @property
    def imported_pools(self) -> tuple[str, ...]:
        """The guids of those that are here, or may be, as stated last."""
        return self._pools.imported if self._pools is not None else ()

    def pool_fault(self, why: str | None) -> None:
        """State why a pool that is here cannot be written; None: all can."""
        if self._pools is not None:
            self._pools = hub.Pools(imported=self._pools.imported, fault=why if self._pools.imported else None)
            self._client.send(self._pools)

    def serve(self, term: int) -> None:
        """Let clients in, as the owner of `term`."""
        self._client.send(hub.Serve(term=term))

    def block(self, term: int, why: str) -> None:
        """Keep clients out, as the owner of `term`."""
        self._client.send(hub.Block(term=term, why=why))

    def resign(self, why: str, *, failed: bool = False) -> None:
        """Give the term up; no pool may be imported here."""
        self._client.send(hub.Resign(why=why, failed=failed))

    def end(self, why: str) -> None:
        """End this controller at once, with the reservation kept."""
        self._client.send(hub.End(why=why))

    async def write(self, record: PairRecord) -> bool:
        """Have the record written. False: refused, or no answer in time, and then it may be written."""
        self._ids += 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._writes[self._ids] = answer
        ident = self._ids
        try:
            if not self._client.send(hub.Write(id=ident, record=record)):
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    return await answer
            return False
        finally:
            del self._writes[ident]

    # --- the port that effects use ---

    async def set_vips(self, vips: Sequence[Vip], groups: Sequence[FailoverGroup] = (), *, lagg: bool = False) -> None:
        self._vips, self._groups, self._lagg = tuple(vips), tuple(groups), lagg
        self._state_settings()

    async def set_policy(self, *, disabled: bool, default_node: Node, timeout_s: float, voting: Voting) -> None:
        self._policy = (disabled, default_node, timeout_s)
        self._voting = voting if voting.sets else None
        self._state_settings()

    async def set_pools(self, pools: Sequence[PoolName]) -> None:
        self.configured_pools = tuple(pools)
        self._state_settings()

    # --- the socket ---

    def _state_all(self) -> None:
        if self._pools is not None:
            self._client.send(self._pools)
        self._state_settings()

    def _state_settings(self) -> None:
        """Nothing is stated until each effect has run: half a configuration must not move anything."""
        if self._vips is None or self._policy is None or self.configured_pools is None:
            return
        disabled, default_node, timeout_s = self._policy
        self._client.send(
            hub.Settings(
                paired=self._cluster is not None,
                cluster_id=self._cluster.cluster_id if self._cluster else "",
                key=self._cluster.key if self._cluster else bytes(32),
                disabled=disabled,
                default_node=default_node,
                timeout_s=timeout_s,
                single_term=self._single_term,
                vips=self._vips,
                groups=self._groups,
                lagg=self._lagg,
                voting=self._voting,
                pools=self.configured_pools != (),
            )
        )

    def _take(self, message: hub.FromFenced) -> None:
        match message:
            case hub.Standing():
                for listener in self._listeners:
                    listener.heard(message)
            case hub.Written() if message.id in self._writes and not self._writes[message.id].done():
                self._writes[message.id].set_result(message.ok)
            case hub.Carp():
                self.carp = message
            case hub.Seen():
                self.seen = message
            case _:
                pass

    def _lost(self, why: str) -> None:
        self.carp = self.seen = None
        for answer in self._writes.values():
            if not answer.done():
                answer.set_result(False)
        for listener in self._listeners:
            listener.lost()


async def no_disks(_: PairRecord) -> bool:
    """A pair without shared disks has no record: only an operator makes an owner there, and vouches for it."""
    return True
