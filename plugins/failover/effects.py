"""Tells fenced what the configuration wants of failover."""

from __future__ import annotations

from middlewared.plugin import Effect, View

from . import settings


async def state_policy(view: View) -> None:
    state = view.state(settings.NOUN)
    await view.fence.set_policy(
        disabled=state.disabled, default_node=state.default_node, timeout_s=float(state.timeout_s)
    )


EFFECTS = (Effect(name="failover policy", watches=("failover",), reconcile=state_policy),)
