"""Whether the states of the two controllers are one: what each said of its digest at which seq.

The owner says its digest at every seq that is a multiple of CHECKPOINT_EVENTS, where both know it without being asked,
and IDLE_S after a change that none of these covered, so that a quiet pair is compared too. The standby answers in its
ACKs. Both compare; a digest is compared only at the same seq of the same log, and only between builds of one state
shape. What the two say is forgotten with the line, and above a cut.

Not handled here: what is done about a difference (repair).
"""

from __future__ import annotations

import enum

import msgspec

FIRST_S = 1.0
IDLE_S = 60.0
KEPT = 64
"""Digests remembered of each side: the standby may be a window of records behind."""


class Verdict(enum.Enum):
    UNKNOWN = "unknown"
    EQUAL = "equal"
    DIFFERENT = "different"


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """The states differed at `seq`."""

    seq: int
    here: str
    there: str


class Agreement:
    """What both said. shape: of this build's state; "" compares with nothing.

    equal_at: the highest seq at which both were equal, 0 if none. differs: the last comparison, where it failed.
    answer: (seq, digest) for the next ACK, (0, "") before there is one.
    """

    def __init__(self, shape: str) -> None:
        self.shape = shape
        self.equal_at = 0
        self.differs: Disagreement | None = None
        self.answer = (0, "")
        self._here: dict[int, str] = {}
        self._there: dict[int, str] = {}
        self._said = 0
        self._due_at: float | None = None
        self._heard = (0, "")

    # --- both ---

    def here(self, seq: int, digest: str) -> Verdict:
        """This controller's digest at `seq`."""
        _keep(self._here, seq, digest)
        return self._compare(seq)

    def there(self, seq: int, digest: str) -> Verdict:
        """The peer's."""
        _keep(self._there, seq, digest)
        return self._compare(seq)

    def _compare(self, seq: int) -> Verdict:
        here, there = self._here.get(seq), self._there.get(seq)
        if here is None or there is None:
            return Verdict.UNKNOWN
        self.answer = max(self.answer, (seq, here))
        if here != there:
            self.differs = Disagreement(seq=seq, here=here, there=there)
            return Verdict.DIFFERENT
        self.equal_at = max(self.equal_at, seq)
        if self.differs is not None and self.differs.seq <= seq:
            self.differs = None
        return Verdict.EQUAL

    def line_down(self) -> None:
        self._there.clear()
        self.answer = self._heard = (0, "")
        self._due_at = None

    def forget_here(self) -> None:
        """The state was made anew: what was said of it counts no more."""
        self._here.clear()
        self.answer = (0, "")

    def cut(self, seq: int) -> None:
        """The log ends at `seq` now."""
        for kept in (self._here, self._there):
            for beyond in [known for known in kept if known > seq]:
                del kept[beyond]
        self.equal_at = min(self.equal_at, seq)
        self._said = min(self._said, seq)
        if self.differs is not None and self.differs.seq > seq:
            self.differs = None
        self.answer = (0, "")

    # --- the owner: when to say the next one ---

    def deadline(self) -> float | None:
        return self._due_at

    def followed(self, now: float) -> None:
        """The peer has begun to follow, or differs: it is asked soon, whatever it was asked before."""
        soon = now + FIRST_S
        self._due_at = soon if self._due_at is None else min(self._due_at, soon)

    def applied(self, seq: int, now: float) -> None:
        if self._due_at is None and seq > self._said:
            self._due_at = now + IDLE_S

    def said(self, seq: int, now: float) -> None:
        self._said = max(self._said, seq)
        self._due_at = now + IDLE_S

    def answered(self, seq: int, digest: str, now: float) -> None:
        """What the peer's ACK says; each says the last answer again."""
        if not seq or (seq, digest) == self._heard:
            return
        self._heard = seq, digest
        differed = self.differs is not None
        if self.there(seq, digest) is Verdict.DIFFERENT or differed:
            # It repairs itself; whether it has, and whether that holds, is asked soon.
            self.followed(now)
        elif seq >= self._said:
            self._due_at = None

    def due(self, now: float) -> bool:
        """Whether a digest must be made now, out of turn."""
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = now + IDLE_S
        return True


def _keep(known: dict[int, str], seq: int, digest: str) -> None:
    known.pop(seq, None)
    known[seq] = digest
    while len(known) > KEPT:
        del known[next(iter(known))]
