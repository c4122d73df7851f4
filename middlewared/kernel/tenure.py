"""The first event of every term: who began to write, and why."""

from __future__ import annotations

from middlewared.kernel.event import Event
from middlewared.kernel.facts import Node


class TermBegan(Event, frozen=True, kw_only=True):
    """reason: the sentence of the rule that gave the term. adopted: records taken over from the peer's tail."""

    kind = "term.begin"

    owner: Node
    reason: str
    prev_last_seq: int
    in_sync: tuple[Node, ...]
    adopted: int
