"""The deeds of a handover: an owner that serves gives its pools and its term to the other controller.

    ask      the other one can take over: it stands by, its log is level, it sees the pools
    drain    no new writes; what is answered is applied there, and both states have one digest
    block    fenced keeps clients out and the VIPs are down, so that no answer leaves that the export may undo
    export   the pools are exported, and proven to be gone
    release  fenced frees the disks
    taken    the other one owns, has imported and serves

and what takes them back: writes are admitted, clients let in, pools imported. Without pools there is nothing to keep
clients from: `block` does nothing, and the VIPs go down with the release.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from middlewared.engine.own_pools import OwnPools
from middlewared.engine.standings import LOOK_S, Standings, come_true
from middlewared.engine.steps import Deeds
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.transition import Transition

READY = "handover.ready"
PROGRESS = "handover.progress"
TIMEOUT_S = 2.0


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the other controller says of itself. why_not: why it could not take over, empty where it could."""

    why_not: str
    applied_seq: int
    digest: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the other controller is. serves: it owns, and clients may come. last: its last change of role."""

    serves: bool
    last: Transition | None


class Writes(Protocol):
    """The engine, as far as a handover stops and watches it."""

    closing: str | None
    """Why no new write is taken; None while they are."""

    def level_with_peer(self) -> int | None:
        """The seq up to which everything is committed, answered and applied on both; None while it is not."""
        ...

    async def state_digest(self) -> tuple[int, str]: ...


class Leave(Protocol):
    """What fenced is told: shell.fence_client.FenceClient."""

    def block(self, term: int, why: str) -> None: ...

    def serve(self, term: int) -> None: ...

    def resign(self, why: str, *, failed: bool = False) -> None: ...


Ask = Callable[..., Awaitable[object]]
"""engine.peer.Peer.ask"""


class Handover:
    """One handover.

    why: of whoever wants it. vips_up: whether any VIP is still held here. told: how far the other controller is.
    """

    def __init__(
        self,
        why: str,
        standings: Standings,
        pools: OwnPools,
        writes: Writes,
        fence: Leave,
        ask: Ask,
        vips_up: Callable[[], bool],
        told: Callable[[str], None],
    ) -> None:
        self._why = why
        self._standings = standings
        self._pools = pools
        self._writes = writes
        self._fence = fence
        self._ask = ask
        self._vips_up = vips_up
        self._told = told
        self._has_pools = False

    def deeds(self) -> Deeds:
        return Deeds(
            do={
                "ask": self._ask_peer,
                "drain": self._drain,
                "block": self._block,
                "export": self._export,
                "release": self._release,
                "taken": self._wait_for_peer,
            },
            undo={"drain": self._admit, "block": self._let_in, "export": self._import},
        )

    async def _ask_peer(self) -> str:
        self._has_pools = bool(await self._pools.look())
        await self._ready(with_pools=self._has_pools)
        return ""

    async def _ready(self, *, with_pools: bool) -> Ready:
        ready = msgspec.convert(await self._ask(READY, with_pools, timeout_s=TIMEOUT_S), Ready)
        if ready.why_not:
            raise CallFailed(errno.EAGAIN, f"the other controller cannot take over: {ready.why_not}")
        return ready

    async def _drain(self) -> str:
        self._writes.closing = f"This controller hands over: {self._why}"
        seq = await come_true(self._writes.level_with_peer)
        ready = await self._ready(with_pools=False)
        applied, digest = await self._writes.state_digest()
        if (ready.applied_seq, ready.digest) != (applied, digest):
            where = f"at seq {ready.applied_seq}, here at seq {applied}"
            raise CallFailed(errno.EAGAIN, f"the two states are not equal: there {ready.digest[:12]} {where}")
        return f"both at seq {seq}"

    async def _admit(self) -> str:
        self._writes.closing = None
        return ""

    async def _block(self) -> str:
        if not self._has_pools:
            return "no pool is imported"
        standing = self._standings.now
        if standing is not None:
            self._fence.block(standing.term, self._why)
        await self._standings.until(lambda s: not s.serves and not self._vips_up())
        return ""

    async def _let_in(self) -> str:
        standing = await self._standings.until(lambda s: s.role == "OWNER")
        if not standing.serves:
            self._fence.serve(standing.term)
            await self._standings.until(lambda s: s.serves)
        return ""

    async def _export(self) -> str:
        return await self._pools.export_all(force=True) if self._has_pools else "no pool is imported"

    async def _import(self) -> str:
        done, not_done = await self._pools.import_all(force=False)
        if not_done:
            raise CallFailed(errno.EIO, "; ".join(not_done))
        return ", ".join(done)

    async def _release(self) -> str:
        self._fence.resign(self._why)
        await self._standings.until(lambda s: s.role != "OWNER")
        return ""

    async def _wait_for_peer(self) -> str:
        """Until the other one serves; while it works, its steps are told."""
        while True:
            try:
                progress = msgspec.convert(await self._ask(PROGRESS, timeout_s=TIMEOUT_S), Progress)
            except CallFailed:
                progress = Progress(serves=False, last=None)
            if progress.serves:
                return _steps(progress.last)
            standing = self._standings.now
            if standing is not None and standing.role == "OWNER":
                raise CallFailed(errno.EAGAIN, f"the other controller did not take over, this one did: {standing.why}")
            self._told(_steps(progress.last))
            await asyncio.sleep(LOOK_S)


def _steps(last: Transition | None) -> str:
    if last is None or not last.steps:
        return ""
    steps: Sequence[str] = [f"{step.name} {step.ms:.0f} ms" for step in last.steps]
    return f"{last.plan}: {', '.join(steps)}"
