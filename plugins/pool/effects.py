"""Tells fenced which pools there are: an owner serves once it has them imported."""

from __future__ import annotations

from middlewared.kernel.facts import PoolName
from middlewared.plugin import Effect, View

from . import pool


async def name_pools(view: View) -> None:
    pools = view.state(pool.NOUN).pools
    await view.fence.set_pools([PoolName(name=one.name, guid=one.guid) for one in pools])


EFFECTS = (Effect(name="pools", watches=("pool",), reconcile=name_pools),)
