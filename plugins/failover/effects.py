"""Tells fenced what the configuration wants of failover."""

from __future__ import annotations

from middlewared.plugin import Effect, View

from . import quarantine, settings, voters


async def state_policy(view: View) -> None:
    state = view.state(settings.NOUN)
    await view.fence.set_policy(
        disabled=state.disabled,
        default_node=state.default_node,
        timeout_s=float(state.timeout_s),
        voting=view.state(voters.NOUN),
    )


async def settle_quarantine(view: View) -> None:
    """Remove this controller's files of tails that were discarded; who decided about a tail is asked no more."""
    state = view.state(quarantine.NOUN)
    decided = state.digests(view.node, "reapplied", "discarded")
    await view.aside.settle(decided=decided, discarded=state.digests(view.node, "discarded"))


EFFECTS = (
    Effect(name="failover policy", watches=("failover", "failover.voters"), reconcile=state_policy),
    Effect(name="quarantine", watches=("failover.quarantine",), reconcile=settle_quarantine),
)
