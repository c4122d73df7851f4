"""A change of this controller's role, as it is told and kept: which steps it took and how long each of them."""

from __future__ import annotations

import msgspec

from middlewared.kernel.facts import Node

LOSS = "loss"


class StepTook(msgspec.Struct, frozen=True, kw_only=True):
    """One step. name: `undo NAME` where it was taken back. outcome: done, failed, late, over; running while it is."""

    name: str
    ms: float
    outcome: str
    detail: str = ""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """plan: promotion or handover; LOSS, without steps, where a term ended without one.

    at_ns: wall time when it began. term: of the ownership that it begins or ends. rule, cause: of the decision behind
    it. outcome: done, undone, failed, stuck, ended, abandoned; running while it is; interrupted where this process
    ended in the middle of it. why: empty where all went well. ms: all of it.
    """

    node: Node
    plan: str
    at_ns: int
    term: int
    rule: str
    cause: str
    outcome: str
    why: str
    ms: float
    steps: tuple[StepTook, ...]
