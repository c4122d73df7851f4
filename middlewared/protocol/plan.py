"""Step machines: what a controller does, in order, to become or to stop being active, and what takes it back.

A plan is data: its steps run one after the other, each within its own limit.

    DOING i    --Done-->                 DOING i+1, after the last one DONE
    DOING i    --Failed, limit passed--> UNDOING i (a step that failed may be half done), then i-1 ... 0, then UNDONE
               the limit of a step that `ends`: ENDED, since nobody knows what still goes on, and nothing is undone
    UNDOING i  --Done-->                 UNDOING i-1
    UNDOING i  --Failed, limit passed--> STUCK: what was begun can be neither finished nor taken back
    any        --Over-->                 ABANDONED: the term is over, and fenced decides about this controller

Steps without an undo are skipped on the way back. A step that `commits` is the point of no return: from its success on
the plan is never taken back, and what fails after it is told and left as it is (FAILED).

What a crash leaves: nothing here is resumed in the middle. Every step is made so that doing it again is right whatever
was done of it before, and whoever runs plans begins the one that the role asks for: an owner that does not serve runs a
promotion, which is also what undoes a handover that a crash interrupted.

Source of the steps: design.md 5, reference/ha.md 4 and 4a. Times are CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. limit_s: of doing it, and of undoing it. undo: whether it can be taken back.

    ends: when its limit passes the controller must end. commits: once done, there is no way back.
    """

    name: str
    limit_s: float
    undo: bool = False
    ends: bool = False
    commits: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    steps: tuple[Step, ...]


EXPORT_LIMIT_S = 4.0
"""Longer than that no pool may be on its way out: its disks are about to be the other's."""

IMPORT_LIMIT_S = 50.0
"""Less than what a command of ZFS is given: a command that is cut off may still be carried out."""

HANDOVER = Plan(
    name="handover",
    steps=(
        Step(name="ask", limit_s=3.0),  # the other one can: its log, networks and disks are right
        Step(name="drain", limit_s=3.0, undo=True),  # no new writes; what was answered is applied there, and equal
        Step(name="block", limit_s=1.0, undo=True),  # clients are kept out
        Step(name="export", limit_s=EXPORT_LIMIT_S, undo=True, ends=True),  # and no pool is left, by proof
        Step(name="release", limit_s=2.0, commits=True),  # the disks are free
        Step(name="taken", limit_s=70.0),  # the other one owns and serves
    ),
)

PROMOTION = Plan(
    name="promotion",
    steps=(
        Step(name="fence", limit_s=5.0),  # every disk that can be reached is ours, so that nobody else writes it
        Step(name="import", limit_s=IMPORT_LIMIT_S, undo=True, ends=True),  # all pools side by side
        Step(name="serve", limit_s=2.0, commits=True),  # clients are let in
    ),
)


class Phase(Enum):
    DOING = "doing"
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"
    STUCK = "stuck"
    ENDED = "ended"
    ABANDONED = "abandoned"


OVER = frozenset({Phase.DONE, Phase.UNDONE, Phase.FAILED, Phase.STUCK, Phase.ENDED, Phase.ABANDONED})


class Done(msgspec.Struct, frozen=True):
    """The step, or its undoing, is done. detail: for people."""

    detail: str = ""


class Failed(msgspec.Struct, frozen=True):
    why: str


class Tick(msgspec.Struct, frozen=True):
    """The deadline came."""


class Over(msgspec.Struct, frozen=True):
    """The term that the plan runs in is over."""

    why: str


class Do(msgspec.Struct, frozen=True):
    step: Step


class Undo(msgspec.Struct, frozen=True):
    step: Step


class Finish(msgspec.Struct, frozen=True):
    """The plan is over. why: empty where all went well."""

    phase: Phase
    why: str


Message: TypeAlias = Done | Failed | Tick | Over
Action: TypeAlias = Do | Undo | Finish


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """How a step went. step: `undo NAME` where it was taken back. took_s: until now where it is under way."""

    step: str
    began_at: float
    took_s: float
    outcome: str = ""
    detail: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One plan under way: immutable, each message makes the next one."""

    plan: Plan
    phase: Phase
    at: int
    began_at: float
    step_at: float
    why: str = ""
    committed: bool = False
    taken: tuple[Taken, ...] = ()

    @property
    def step(self) -> Step:
        return self.plan.steps[self.at]

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def deadline(self) -> float | None:
        return None if self.over else self.step_at + self.step.limit_s


def begin(plan: Plan, now: float) -> tuple[Run, tuple[Action, ...]]:
    run = Run(plan=plan, phase=Phase.DOING, at=0, began_at=now, step_at=now)
    return run, (Do(run.step),)


def receive(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    """What follows from a message. A plan that is over ignores it, and so does a Tick before its time."""
    deadline = run.deadline()
    if deadline is None or (isinstance(message, Tick) and now < deadline):
        return run, ()
    row = TABLE.get((run.phase, type(message))) or TABLE[(None, type(message))]
    return row(run, message, now)


# The rows of the table


def _done(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    assert isinstance(message, Done)
    run = _note(run, now, "done", message.detail)
    run = msgspec.structs.replace(run, committed=run.committed or run.step.commits)
    if run.at + 1 == len(run.plan.steps):
        return _finish(run, Phase.DONE, "")
    run = msgspec.structs.replace(run, at=run.at + 1, step_at=now)
    return run, (Do(run.step),)


def _failed(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    assert isinstance(message, Failed)
    return _turn_back(_note(run, now, "failed", message.why), f"{run.step.name}: {message.why}", now)


def _late(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    why = f"{run.step.name} was not done within {run.step.limit_s:g} s"
    run = _note(run, now, "late", "")
    return _finish(run, Phase.ENDED, why) if run.step.ends else _turn_back(run, why, now)


def _turn_back(run: Run, why: str, now: float) -> tuple[Run, tuple[Action, ...]]:
    run = msgspec.structs.replace(run, why=why)
    return _finish(run, Phase.FAILED, why) if run.committed else _undo_from(run, run.at, now)


def _undone(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    assert isinstance(message, Done)
    return _undo_from(_note(run, now, "done", message.detail), run.at - 1, now)


def _not_undone(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    said = message.why if isinstance(message, Failed) else f"not within {run.step.limit_s:g} s"
    run = _note(run, now, "failed" if isinstance(message, Failed) else "late", said)
    return _finish(run, Phase.STUCK, f"{run.why}; and {run.step.name} could not be taken back: {said}")


def _over(run: Run, message: Message, now: float) -> tuple[Run, tuple[Action, ...]]:
    assert isinstance(message, Over)
    return _finish(_note(run, now, "over", message.why), Phase.ABANDONED, message.why)


def _undo_from(run: Run, index: int, now: float) -> tuple[Run, tuple[Action, ...]]:
    while index >= 0 and not run.plan.steps[index].undo:
        index -= 1
    if index < 0:
        return _finish(run, Phase.UNDONE, run.why)
    run = msgspec.structs.replace(run, phase=Phase.UNDOING, at=index, step_at=now)
    return run, (Undo(run.step),)


def _finish(run: Run, phase: Phase, why: str) -> tuple[Run, tuple[Action, ...]]:
    return msgspec.structs.replace(run, phase=phase, why=why), (Finish(phase, why),)


def _note(run: Run, now: float, outcome: str, detail: str) -> Run:
    name = run.step.name if run.phase is Phase.DOING else f"undo {run.step.name}"
    taken = Taken(step=name, began_at=run.step_at, took_s=now - run.step_at, outcome=outcome, detail=detail)
    return msgspec.structs.replace(run, taken=(*run.taken, taken))


Row: TypeAlias = Callable[[Run, Message, float], tuple[Run, tuple[Action, ...]]]

TABLE: dict[tuple[Phase | None, type[Message]], Row] = {
    (Phase.DOING, Done): _done,
    (Phase.DOING, Failed): _failed,
    (Phase.DOING, Tick): _late,
    (Phase.UNDOING, Done): _undone,
    (Phase.UNDOING, Failed): _not_undone,
    (Phase.UNDOING, Tick): _not_undone,
    (None, Over): _over,
}
