"""The methods of `failover` by which the active controller changes, and what is told of how it did."""

from __future__ import annotations

import msgspec

from middlewared.kernel.errors import EHAUNAVAILABLE, CallFailed, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.transition import StepTook, Transition
from middlewared.plugin import Call, JobCall, PeerCall, job, peer, query

from .outlook import reasons

LIMIT = 200
STEPS = 6
PEER_TIMEOUT_S = 2.0


class HistoryOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """limit: the newest so many, 1-200. node: of one controller only."""

    limit: int = 50
    node: Node | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a controller's role.

    plan: `promotion` (it became active), `handover` (it gave that up in good order), or `loss` (its term ended without
    that, by `rule`; no steps). at: when it began, {"$date": ms since 1970,
    UTC}, by that controller's clock. cause: the sentence of the rule, or of the operator. outcome: done, undone,
    failed, stuck, ended, abandoned, interrupted; running while it is. ms: from the last sign of the other controller,
    where that was waited for, to the end. steps: in their order, with what each took.
    """

    node: Node
    plan: str
    at: dict[str, int]
    term: int
    rule: str
    cause: str
    outcome: str
    why: str
    ms: float
    steps: tuple[StepTook, ...]


@job("failover.become_passive", roles=("FAILOVER_WRITE",), abortable=False)
async def become_passive(call: JobCall) -> Told:
    """Give the pools, the virtual IPs and the term to the other controller, in good order.

    It is done when the other controller serves. Where a step fails, everything is given back, and this controller stays
    active. Refused while failover is not available.
    """
    codes = await reasons.handler(call)
    if codes:
        raise CallFailed(EHAUNAVAILABLE, f"Failover is not available: {', '.join(codes)}")
    who = call.session.username or "the console"

    def told(transition: Transition) -> None:
        done = sum(step.outcome == "done" for step in transition.steps)
        call.progress(100 * done / STEPS, described(transition))

    return told_of(await call.controller.succession.hand_over(f"asked by {who}", told))


def described(transition: Transition) -> str:
    """The steps so far, each with its duration."""
    return ", ".join(_step(step) for step in transition.steps)


def _step(step: StepTook) -> str:
    took = "..." if step.outcome == "running" else f" {step.ms:.0f} ms"
    return f"{step.name}{took}{f' ({step.detail})' if step.detail else ''}"


@query("failover.history", roles=("FAILOVER_READ",))
async def history(call: Call, options: HistoryOptions = HistoryOptions()) -> list[Told]:  # noqa: B008
    """The last changes of role of both controllers, newest first, each with its steps.

    The other controller's are left out while it does not answer.
    """
    if not 1 <= options.limit <= LIMIT:
        raise Refused(("options.limit", f"must be 1-{LIMIT}"))
    transitions = list(call.controller.succession.history()) if options.node in (None, call.node) else []
    if options.node != call.node:
        try:
            theirs = await call.controller.ask_peer("failover.transitions", timeout_s=PEER_TIMEOUT_S)
        except CallFailed:
            theirs = []
        transitions += msgspec.convert(theirs, list[Transition])
    newest = sorted(transitions, key=lambda transition: transition.at_ns, reverse=True)
    return [told_of(transition) for transition in newest[: options.limit]]


@peer("failover.transitions")
async def own_transitions(call: PeerCall) -> list[Transition]:
    """This controller's own."""
    return list(call.controller.succession.history())


def told_of(transition: Transition) -> Told:
    return Told(
        node=transition.node,
        plan=transition.plan,
        at={"$date": transition.at_ns // 1_000_000},
        term=transition.term,
        rule=transition.rule,
        cause=transition.cause,
        outcome=transition.outcome,
        why=transition.why,
        ms=transition.ms,
        steps=transition.steps,
    )


METHODS = (become_passive, history)
PEER_METHODS = (own_transitions,)
