"""The deeds of a promotion: an owner of the term becomes a controller that serves.

    fence    every disk that can be reached is held by us in our term: nobody else's write lands any more
    import   all configured pools side by side; forced only because of `fence`
    serve    fenced lets clients in, and carpd takes the VIPs

A controller that was never paired has nobody to fence, and forces nothing.

A pool that cannot be imported here fails the promotion while the other controller may do better: what was imported is
exported again, with clients kept out, and the term given up. Where the other one cannot be asked, or says that it
cannot take over either, the rest of the pools is served, and what is missing is told; none at all is served only where
an operator forced it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Protocol

from middlewared.engine.own_pools import OwnPools
from middlewared.engine.standings import LOOK_S, Standings, owns
from middlewared.engine.steps import Deeds
from middlewared.kernel.errors import CallFailed


class LetIn(Protocol):
    """What fenced is told: shell.fence_client.FenceClient."""

    def serve(self, term: int) -> None: ...

    def block(self, term: int, why: str) -> None: ...


class Promotion:
    """fence: is told that what a term needs is there, or that clients are to be kept out.

    peer_could: whether the other one says that it could. vips_up: whether any VIP is held here.
    """

    def __init__(
        self,
        standings: Standings,
        pools: OwnPools,
        fence: LetIn,
        peer_could: Callable[[], Awaitable[bool]],
        vips_up: Callable[[], bool],
    ) -> None:
        self._standings = standings
        self._pools = pools
        self._fenced = fence
        self._peer_could = peer_could
        self._vips_up = vips_up

    def deeds(self) -> Deeds:
        return Deeds(
            do={"fence": self._fence, "import": self._import, "serve": self._let_in}, undo={"import": self._export}
        )

    async def _fence(self) -> str:
        if not self._pools.configured:
            return "no pool is configured"
        if self._is_alone():
            return "there is no other controller"
        standing = await self._standings.until(lambda s: s.fenced)
        return f"{sum(voter.reachable for voter in standing.voters)} of {len(standing.voters)} disks"

    async def _import(self) -> str:
        done, not_done = await self._pools.import_all(force=not self._is_alone())
        if not_done:
            await self._bear(done, not_done)
        return "; ".join([", ".join(done), *not_done]) if not_done else ", ".join(done)

    async def _bear(self, done: list[str], not_done: list[str]) -> None:
        """Whether to serve although some pools are not there. Raises CallFailed where not."""
        standing = self._standings.now
        if standing is not None and standing.rule == "FORCED":
            return
        if not done or await self._peer_could():
            raise CallFailed(errno.EIO, "; ".join(not_done))

    def _is_alone(self) -> bool:
        standing = self._standings.now
        return standing is not None and standing.role == "SINGLE"

    async def _export(self) -> str:
        """Where this controller served already, and only lacked a pool, clients are here."""
        standing = self._standings.now
        if standing is not None and standing.role == "OWNER" and standing.serves:
            self._fenced.block(standing.term, "a pool cannot be imported here")
            await self._standings.until(lambda s: not s.serves and not self._vips_up())
        return await self._pools.export_all(force=True)

    async def _let_in(self) -> str:
        while True:
            # The term may have gone on meanwhile, and fenced takes the word of the present one only.
            standing = await self._standings.until(owns)
            if standing.serves:
                return ""
            self._fenced.serve(standing.term)
            await asyncio.sleep(LOOK_S)
