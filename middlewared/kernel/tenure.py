"""The first event of every term: who began to write, and why."""

from __future__ import annotations

from middlewared.kernel.event import Event
from middlewared.kernel.facts import Node


class TermBegan(Event, frozen=True, kw_only=True, omit_defaults=True):
    """reason: the sentence of the rule that gave the term. adopted: records taken over from the peer's tail.

    pair_seq: the last record that the owner knew to be durable on both controllers. A state.db that is lost takes what
    it knew of that with it; this much stays. Builds that do not say it are read as 0: nothing is known.
    """

    kind = "term.begin"

    owner: Node
    reason: str
    prev_last_seq: int
    in_sync: tuple[Node, ...]
    adopted: int
    pair_seq: int = 0
