"""Has this controller become active, and hand over, as fenced says and as operators ask.

Level-triggered: what is done follows from where fenced says that this controller stands, at every word of it and after
every restart of this process.

    OWNER, does not serve          a promotion
    OWNER or SINGLE, lacks a pool  a promotion, too: ZFS was restarted, or this controller
    OWNER, fenced wants to leave   a handover
    OWNER, an operator asked       a handover
    anything else                  nothing; what is under way is abandoned

    a promotion that was taken back         the term is given up as failed, so that the other controller may try
    a term that ends without a plan         a loss, which is told in the history with the rule that fenced followed
    a plan that is stuck, or had to end     the controller ends, or gives the term up where it has no pool
    a handover that was taken back          this controller goes on serving; asked by fenced, it is tried again
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from middlewared.engine.handover import PROGRESS, READY, Ask, Handover, Leave, Progress, Ready, Writes
from middlewared.engine.own_pools import OwnPools
from middlewared.engine.promotion import Promotion
from middlewared.engine.standings import Standings, owns
from middlewared.engine.steps import Deeds, Steps
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.kernel.transition import LOSS, StepTook, Transition
from middlewared.ports import Clock
from middlewared.protocol import hub
from middlewared.protocol.plan import HANDOVER, PROMOTION, Phase, Plan, Run
from middlewared.protocol.quorum import majority
from middlewared.store.transitions import RUNNING

log = logging.getLogger(__name__)

ASKED = "ASKED"
"""The rule of a handover that an operator asked for."""
LOOK_AGAIN_S = 0.5
EXAMINE_S = 5.0
IMPORT_AGAIN_S = 60.0
RETRY_S = 5.0
"""After a handover that was taken back."""
SAME_NS = 5 * 10**9
"""Within that time two gains are one, told by two processes."""
GIVE_UP_S = 2.0
"""fenced answers within a few milliseconds."""


class Fence(Leave, Protocol):
    """shell.fence_client.FenceClient, as far as it is told here."""

    def end(self, why: str) -> None: ...


class Kept(Protocol):
    """store.transitions.Transitions."""

    def all(self) -> tuple[Transition, ...]: ...

    def begin(self, transition: Transition) -> None: ...

    def go_on(self, transition: Transition) -> None: ...


class Wish(msgspec.Struct):
    """An operator's handover. told: whoever shows how far it is."""

    why: str
    told: Callable[[Transition], None]
    outcome: asyncio.Future[Transition]


class Succession:
    """To be used from the event loop only. vips_up: whether any VIP is held here."""

    def __init__(
        self,
        node: Node,
        clock: Clock,
        fence: Fence,
        pools: OwnPools,
        writes: Writes,
        ask: Ask,
        kept: Kept,
        vips_up: Callable[[], bool],
    ) -> None:
        self._node: Node = node
        self._clock = clock
        self._fence = fence
        self._pools = pools
        self._writes = writes
        self._ask = ask
        self._kept = kept
        self._vips_up = vips_up
        self.others: Callable[[str, Sequence[object]], Awaitable[object]]
        """Who answers the other controller's other questions."""
        self._standings = Standings()
        self._steps = Steps(clock, self._tell)
        self._run: Run | None = None
        self._transition: Transition
        self._before: tuple[StepTook, ...] = ()
        self._peer_says = ""
        self._wish: Wish | None = None
        self._not_before = 0.0
        self._noted_gain: float | None = None
        self._owned: hub.Standing | None = None
        self._by_plan = False
        """Whether a plan is under way, or has just ended: what becomes of the term is told there."""
        self._missing_from = 0.0

    # --- what fenced says ---

    def heard(self, standing: hub.Standing) -> None:
        self._standings.heard(standing)
        if not owns(standing) and self._steps.running and not self._gives_up():
            self._steps.term_is_over(standing.why)
        self._note_loss(standing)

    def lost(self) -> None:
        """fenced is not heard: it alone ends a term, so what is under way goes on."""
        self._standings.heard(None)

    def _gives_up(self) -> bool:
        run = self._run
        return run is not None and run.plan is HANDOVER and (run.committed or run.step.commits)

    # --- what is asked ---

    @property
    def promoting(self) -> bool:
        return self._steps.running and self._run is not None and self._run.plan is PROMOTION

    @property
    def leaving(self) -> str | None:
        """Why this controller is handing over just now."""
        handing_over = self._steps.running and self._run is not None and self._run.plan is HANDOVER
        return self._transition.cause if handing_over else None

    def history(self) -> tuple[Transition, ...]:
        """Oldest first; the last may be under way."""
        return self._kept.all()

    async def hand_over(self, why: str, told: Callable[[Transition], None]) -> Transition:
        """Give the term to the other controller. Raises CallFailed with the reason where that was not done."""
        if self._wish is not None or self._steps.running:
            raise CallFailed(errno.EBUSY, "This controller is changing its role already")
        self._wish = Wish(why, told, asyncio.get_running_loop().create_future())
        self._standings.news.set()
        done = await self._wish.outcome
        if done.outcome != Phase.DONE.value:
            raise CallFailed(errno.EAGAIN, f"The handover was {done.outcome}: {done.why}")
        return done

    async def answer(self, method: str, params: Sequence[object]) -> object:
        """The questions of the other controller that concern its and our role."""
        if method == READY:
            return msgspec.to_builtins(await self._ready(with_pools=list(params[:1]) != [False]))
        if method == PROGRESS:
            standing, last = self._standings.now, self._kept.all()[-1:]
            serves = standing is not None and standing.role == "OWNER" and standing.serves
            return msgspec.to_builtins(Progress(serves=serves, last=last[0] if last else None))
        return await self.others(method, params)

    async def _ready(self, *, with_pools: bool) -> Ready:
        seq, digest = await self._writes.state_digest()
        return Ready(why_not=await self._why_not(with_pools), applied_seq=seq, digest=digest)

    async def _why_not(self, with_pools: bool) -> str:
        standing = self._standings.now
        if standing is None:
            return "its fenced is not heard"
        if standing.role != "STANDBY":
            return f"it stands {standing.role}"
        if standing.failed is not None:
            return standing.failed
        reachable = [voter for voter in standing.voters if voter.reachable]
        if standing.voters and not majority(reachable, standing.voters):
            return f"it reaches {len(reachable)} of {len(standing.voters)} shared disks"
        try:
            return await self._pools.why_not_importable() if with_pools else ""
        except MiddlewareError as e:
            return str(e)

    # --- what is done ---

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._standings.news.clear()
            if not await self._act():
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._standings.news.wait()
                except TimeoutError:
                    continue

    async def _act(self) -> bool:
        """Do what is to be done now. False: nothing is."""
        self._by_plan = False
        standing = self._standings.now
        if standing is None or not owns(standing):
            self._writes.closing = None
            self._missing_from = 0.0
            self._refuse_wish("This controller does not own")
            return False
        if self._pools.configured is None:
            return False
        if not standing.serves or await self._lacks_a_pool():
            await self._promote(standing)
            return True
        self._note_gain(standing)
        wish = self._wish
        if wish is not None:
            await self._hand_over(standing, ASKED, wish.why)
            return True
        if standing.leaving is not None and self._clock.boottime() >= self._not_before:
            await self._hand_over(standing, standing.leaves_by, standing.leaving)
            return True
        return False

    def _note_gain(self, standing: hub.Standing) -> None:
        """A term that was gained where no pool was to be imported: there was no plan, and it is told all the same."""
        decided_at = standing.decided_at
        if decided_at is None or decided_at == self._noted_gain:
            return
        self._noted_gain = decided_at
        at_ns = self._clock.wall_ns() - round((self._clock.boottime() - decided_at) * 1e9)
        if any(kept.plan == PROMOTION.name and abs(kept.at_ns - at_ns) < SAME_NS for kept in self._kept.all()[-2:]):
            return  # by the process before this one
        gained = _begun(self._node, PROMOTION, standing, standing.rule, standing.why, at_ns)
        ms = sum(step.ms for step in gained.steps)
        self._kept.begin(msgspec.structs.replace(gained, outcome=Phase.DONE.value, ms=ms))

    def _note_loss(self, standing: hub.Standing) -> None:
        """A term that fenced lost, or gave up where no pool was to be exported. WAITING, it may yet go on."""
        if standing.role == "OWNER":
            self._owned = standing
        if standing.role != "STANDBY":
            return
        owned, self._owned = self._owned, None
        if owned is None or self._by_plan:
            return
        lost = standing.lost  # None: fenced was restarted, and found that the term is over
        if lost is None:
            lost = hub.Lost(term=owned.term, at=standing.since, rule=standing.rule, why=standing.why)
        transition = Transition(
            node=self._node,
            plan=LOSS,
            at_ns=self._clock.wall_ns() - round((self._clock.boottime() - lost.at) * 1e9),
            term=lost.term,
            rule=lost.rule,
            cause=lost.why,
            outcome=Phase.DONE.value,
            why="",
            ms=0.0,
            steps=(),
        )
        self._kept.begin(transition)

    async def _lacks_a_pool(self) -> bool:
        """Looked at when this process begins, and from time to time."""
        now = self._clock.boottime()
        if now < self._missing_from:
            return False
        self._missing_from = now + EXAMINE_S
        try:
            return bool(await self._pools.missing())
        except MiddlewareError as e:
            log.warning("event=pools_unknown why=%r", str(e))
            return False

    async def _promote(self, standing: hub.Standing) -> None:
        self._refuse_wish("This controller is becoming active only now")
        deeds = Promotion(self._standings, self._pools, self._fence, self._peer_could, self._vips_up).deeds()
        run = await self._carry_out(PROMOTION, deeds, standing, standing.rule, standing.why)
        if run.phase is not Phase.DONE:
            self._missing_from = self._clock.boottime() + IMPORT_AGAIN_S
        if run.phase is Phase.UNDONE and standing.role == "OWNER":
            self._fence.resign(run.why, failed=True)
            await self._gone()
        await self._end_if_stuck(run)

    async def _hand_over(self, standing: hub.Standing, rule: str, why: str) -> None:
        self._peer_says = ""
        handover = Handover(
            why, self._standings, self._pools, self._writes, self._fence, self._ask, self._vips_up, self._peer_is
        )
        run = await self._carry_out(HANDOVER, handover.deeds(), standing, rule, why)
        self._not_before = self._clock.boottime() + RETRY_S
        await self._end_if_stuck(run)
        # Where the other one did not take over, this controller may own again without having stood by in between.
        self._writes.closing = None
        if self._wish is not None and not self._wish.outcome.done():
            self._wish.outcome.set_result(self._transition)
        self._wish = None

    async def _carry_out(self, plan: Plan, deeds: Deeds, standing: hub.Standing, rule: str, cause: str) -> Run:
        self._by_plan = True
        self._noted_gain = standing.decided_at
        self._transition = _begun(self._node, plan, standing, rule, cause, self._clock.wall_ns())
        self._before = self._transition.steps
        self._kept.begin(self._transition)
        return await self._steps.run(plan, deeds)

    async def _end_if_stuck(self, run: Run) -> None:
        """What can be neither finished nor taken back: with a pool here only the end of the controller is safe."""
        if run.phase not in (Phase.STUCK, Phase.ENDED):
            return
        try:
            left = await self._pools.look()
        except MiddlewareError:
            left = None
        if left is None or left or run.phase is Phase.ENDED:
            self._fence.end(run.why)
        else:
            self._fence.resign(run.why, failed=True)
        await self._gone()

    async def _gone(self) -> None:
        """fenced was told that the term is over here; what it says next counts."""
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await self._standings.until(lambda s: not owns(s))
        except TimeoutError:
            log.warning("event=still_owner why=%r", "fenced did not take the term back")

    async def _peer_could(self) -> bool:
        try:
            ready = msgspec.convert(await self._ask(READY, timeout_s=2.0), Ready)
        except CallFailed:
            return False
        return not ready.why_not

    def _refuse_wish(self, why: str) -> None:
        wish, self._wish = self._wish, None
        if wish is not None and not wish.outcome.done():
            wish.outcome.set_exception(CallFailed(errno.EAGAIN, why))

    # --- what is told ---

    def _peer_is(self, steps: str) -> None:
        if steps != self._peer_says and self._run is not None:
            self._peer_says = steps
            self._tell(self._run)

    def _tell(self, run: Run) -> None:
        self._run = run
        steps = [StepTook(name=t.step, ms=t.took_s * 1000, outcome=t.outcome, detail=t.detail) for t in run.taken]
        if not run.over:
            now = self._clock.boottime()
            detail = self._peer_says if run.step.name == "taken" else ""
            name = run.step.name if run.phase is Phase.DOING else f"undo {run.step.name}"
            steps.append(StepTook(name=name, ms=(now - run.step_at) * 1000, outcome=RUNNING, detail=detail))
        steps = [*self._before, *steps]
        self._transition = msgspec.structs.replace(
            self._transition,
            outcome=run.phase.value if run.over else RUNNING,
            why=run.why,
            ms=sum(step.ms for step in steps),
            steps=tuple(steps),
        )
        self._kept.go_on(self._transition)
        if self._wish is not None:
            self._wish.told(self._transition)


def _begun(node: Node, plan: Plan, standing: hub.Standing, rule: str, cause: str, at_ns: int) -> Transition:
    return Transition(
        node=node,
        plan=plan.name,
        at_ns=at_ns,
        term=standing.term,
        rule=rule,
        cause=cause,
        outcome=RUNNING,
        why="",
        ms=0.0,
        steps=_before(standing) if plan is PROMOTION else (),
    )


def _before(standing: hub.Standing) -> tuple[StepTook, ...]:
    """What fenced did before: to notice that the other controller is silent, and to take the term."""
    if standing.decided_at is None:
        return ()
    steps = [StepTook(name="claim", ms=(standing.since - standing.decided_at) * 1000, outcome="done")]
    if standing.last_sign_at is not None:
        noticed_ms = (standing.decided_at - standing.last_sign_at) * 1000
        steps.insert(0, StepTook(name="notice", ms=noticed_ms, outcome="done", detail=standing.why))
    return tuple(steps)
