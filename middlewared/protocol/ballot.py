"""Taking a term: one attempt of one controller to hold a majority of the shared disks.

States                 READING    every voter was asked what it holds
                       CLAIMING   a term was chosen and is claimed from each voter over the holding that was read
                       PAUSING    lost to a rival this time; what was granted is released; wait, then read again
                       WON, LOST  the end; answers that still come are noted and change nothing

Rules
1.  The term is one above the highest that anybody is known to have had. A voter grants a term once, and two majorities
    share a voter, so a term has one owner whatever the rival does and whatever is lost or late.
2.  A voter is claimed over exactly what it said it held, so a claim that was overtaken is refused by the disk. Where
    what overtook it freed the disk, it is claimed again over that: an owner that resigns says so while it frees them.
3.  A majority of the readings is enough to go on; the rest is awaited for `grace_s` and claimed as it comes in.
4.  Silence counts as neither. A majority out of reach (enough denied or silent) ends the try: what was granted, and
    what was silent and may have been granted, is released, except where the key was this controller's own before: an
    owner that fails to renew is no worse off than before it tried.
5.  A try that was lost because of silence ends the ballot; one that was lost to a rival is repeated after a pause that
    the caller drew at random, as often as it drew one.
6.  When the rival turns out to hold a majority in a term that the decision to claim did not rest on, the ballot is lost
    at once: the decision is to be made again. Who claims from a rival rests on the highest term that is known, an owner
    on its own. A forced ballot goes on.
7.  No voters at all: only a forced ballot is won, and nothing fences the rival.
8.  While the disks that vote are being changed, a majority is one of the old and one of the new (quorum.py).

Deliberately not handled: a voter whose register moved past the term that was won (a rival's lost try) stays without
this controller's key until the next term. Source: the shape is a single-shot Paxos proposer whose acceptors are
test-and-set registers (Gafni, Lamport: Disk Paxos, 2003, has the same with plain disks).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

from middlewared.kernel.facts import Node
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Silent
from middlewared.protocol.quorum import Quorum


class State(Enum):
    READING = "reading"
    CLAIMING = "claiming"
    PAUSING = "pausing"
    WON = "won"
    LOST = "lost"


class Start(msgspec.Struct, frozen=True):
    """Begin; the first message."""


class WasRead(msgspec.Struct, frozen=True):
    voter: str
    holding: Holding | Silent


class WasClaimed(msgspec.Struct, frozen=True):
    voter: str
    term: int
    answer: Answer


class WasReleased(msgspec.Struct, frozen=True):
    """For completeness of the answers; nothing waits for it."""

    voter: str
    answer: Answer


class Tick(msgspec.Struct, frozen=True):
    """The deadline came."""


class Read(msgspec.Struct, frozen=True):
    """Ask the voter what it holds; tell the answer by WasRead."""

    voter: str


class Claim(msgspec.Struct, frozen=True):
    """Claim the voter; tell the answer by WasClaimed."""

    voter: str
    term: int
    over: Holding


class Release(msgspec.Struct, frozen=True):
    """Free the voter if it is held in that term; tell the answer by WasReleased, which nothing waits for."""

    voter: str
    term: int


class Won(msgspec.Struct, frozen=True):
    term: int


class Lost(msgspec.Struct, frozen=True):
    """term: the highest that was seen."""

    why: str
    term: int


Message: TypeAlias = Start | WasRead | WasClaimed | WasReleased | Tick
Action: TypeAlias = Read | Claim | Release | Won | Lost


class Mandate(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision to claim rested on.

    node: who claims. known_term: the highest term that is known from anywhere; the new one is above it. own_term: the
    term that this controller owns and goes on from; 0: it claims as somebody who does not own. forced: over anybody,
    voters or none.
    """

    node: Node
    known_term: int
    own_term: int = 0
    forced: bool = False


class Ballot:
    """The machine.

    quorum: who votes. pauses_s: how long to wait before each further try, drawn at random by the caller; as many
    further tries as pauses. grace_s: how long to await the other readings after a majority of them. reading_s: how
    long all the readings together may take (each voter answers or is Silent within its own deadline before that).
    """

    def __init__(
        self,
        mandate: Mandate,
        quorum: Quorum,
        *,
        pauses_s: tuple[float, ...] = (),
        grace_s: float = 0.03,
        reading_s: float = 1.0,
    ) -> None:
        self.state = State.READING
        self.term = mandate.known_term
        self._mandate = mandate
        self._quorum = quorum
        self._voters = quorum.members
        self._pauses_s = list(pauses_s)
        self._grace_s = grace_s
        self._reading_s = reading_s
        self._deadline: float | None = None
        self._read: dict[str, Holding | Silent] = {}
        self._claimed: dict[str, Answer | None] = {}

    def deadline(self) -> float | None:
        """When to hand in a Tick."""
        return self._deadline

    def receive(self, message: Message, now: float) -> tuple[Action, ...]:
        step = _TABLE.get((self.state, type(message)))
        return step(self, message, now) if step else ()

    # Reading

    def _start(self, message: Message, now: float) -> tuple[Action, ...]:
        if not self._voters:
            if self._mandate.forced:
                return self._win(self.term + 1)
            return self._lose("there are no shared disks; only a forced claim is granted without them")
        self.state = State.READING
        self._read, self._claimed = {}, {}
        self._deadline = now + self._reading_s
        return tuple(Read(voter) for voter in self._voters)

    def _was_read(self, message: Message, now: float) -> tuple[Action, ...]:
        assert isinstance(message, WasRead)
        had_majority = self._quorum.has(self._holdings())
        self._read[message.voter] = message.holding
        if len(self._read) == len(self._voters):
            return self._choose()
        if self._quorum.has(self._holdings()) and not had_majority:
            self._deadline = now + self._grace_s
        return ()

    def _reading_ended(self, message: Message, now: float) -> tuple[Action, ...]:
        return self._choose()

    def _choose(self) -> tuple[Action, ...]:
        holdings = self._holdings()
        if not self._quorum.has(holdings):
            return self._lose(f"only {len(holdings)} of {len(self._voters)} disks answered")
        self.term = max(self.term, *(holding.term for holding in holdings.values()))
        if not self._mandate.forced and self._rival_owns():
            return self._lose(f"the peer took term {self.term} meanwhile")
        self.term += 1
        self.state = State.CLAIMING
        self._deadline = None
        return tuple(self._claim(voter, holding) for voter, holding in holdings.items())

    # Claiming

    def _claim(self, voter: str, over: Holding) -> Action:
        self._claimed[voter] = None
        return Claim(voter, self.term, over)

    def _was_read_late(self, message: Message, now: float) -> tuple[Action, ...]:
        return self._claim_late(message) or self._count(now)

    def _claim_late(self, message: Message) -> tuple[Action, ...]:
        assert isinstance(message, WasRead)
        self._read[message.voter] = message.holding
        if isinstance(message.holding, Silent) or message.voter in self._claimed or message.holding.term >= self.term:
            return ()
        return (self._claim(message.voter, message.holding),)

    def _was_claimed(self, message: Message, now: float) -> tuple[Action, ...]:
        assert isinstance(message, WasClaimed)
        if message.term != self.term:
            return ()
        if isinstance(message.answer, Denied) and self._was_freed(message.voter, message.answer.holding):
            self._read[message.voter] = message.answer.holding
            return (self._claim(message.voter, message.answer.holding),)
        self._claimed[message.voter] = message.answer
        return self._count(now)

    def _was_freed(self, voter: str, now_holds: Holding) -> bool:
        """Whether its holder freed the voter between our reading and our claim. This happens once for each holder."""
        before = self._read[voter]
        held_before = isinstance(before, Holding) and before.owner is not None
        return held_before and now_holds.owner is None and now_holds.term < self.term

    def _count(self, now: float) -> tuple[Action, ...]:
        granted = {v for v, answer in self._claimed.items() if isinstance(answer, Granted)}
        if self._quorum.has(granted):
            return self._win(self.term)
        unanswered = {voter for voter, answer in self._claimed.items() if answer is None}
        undecided = unanswered | (set(self._voters) - set(self._read))
        if self._quorum.has(granted | undecided):
            return ()
        return self._try_lost(now)

    def _try_lost(self, now: float) -> tuple[Action, ...]:
        term = self.term
        releases = tuple(Release(voter, term) for voter in self._claimed if self._may_be_new_here(voter))
        denials = [answer.holding for answer in self._claimed.values() if isinstance(answer, Denied)]
        self.term = max([term, *(holding.term for holding in denials)])
        if not denials:
            silent = sum(isinstance(answer, Silent) for answer in self._claimed.values())
            return (*releases, *self._lose(f"{silent} of {len(self._voters)} disks fell silent"))
        if not self._pauses_s:
            return (*releases, *self._lose(f"a rival was faster for term {term}"))
        self.state = State.PAUSING
        self._deadline = now + self._pauses_s.pop(0)
        return releases

    def _may_be_new_here(self, voter: str) -> bool:
        """Whether our key of this term is, or may be, on a voter that was not ours before."""
        before = self._read[voter]
        ours_before = isinstance(before, Holding) and before.owner == self._mandate.node
        return not ours_before and not isinstance(self._claimed[voter], Denied)

    # The end, and what the states share

    def _claim_the_rest(self, message: Message, now: float) -> tuple[Action, ...]:
        return self._claim_late(message)

    def _win(self, term: int) -> tuple[Action, ...]:
        self.state, self.term, self._deadline = State.WON, term, None
        return (Won(term),)

    def _lose(self, why: str) -> tuple[Action, ...]:
        self.state, self._deadline = State.LOST, None
        return (Lost(why, self.term),)

    def _holdings(self) -> dict[str, Holding]:
        return {voter: holding for voter, holding in self._read.items() if isinstance(holding, Holding)}

    def _rival_owns(self) -> bool:
        """Whether the rival holds a majority that the decision to claim did not rest on.

        An owner rests on its own term, whatever it has heard since: a later term that it knows from one disk, or from
        the rival's word, may be the rival's by now.
        """
        known = self._mandate
        since = known.own_term or known.known_term
        newer = {v for v, h in self._holdings().items() if h.owner not in (None, known.node) and h.term > since}
        return self._quorum.has(newer)


Step = Callable[[Ballot, Message, float], tuple[Action, ...]]

_TABLE: dict[tuple[State, type[Message]], Step] = {
    (State.READING, Start): Ballot._start,
    (State.READING, WasRead): Ballot._was_read,
    (State.READING, Tick): Ballot._reading_ended,
    (State.CLAIMING, WasRead): Ballot._was_read_late,
    (State.CLAIMING, WasClaimed): Ballot._was_claimed,
    (State.PAUSING, Tick): Ballot._start,
    # The rest of the voters is claimed for the term that was won.
    (State.WON, WasRead): Ballot._claim_the_rest,
}
