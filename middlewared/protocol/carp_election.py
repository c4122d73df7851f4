"""What an authentic advert means: how the members of a CARP group rank, and what their counters say.

Two elections share the wire format.

*Paired*: our two controllers. The election is over before a frame is sent: fenced grants a term, and a term has one
owner. The counter, which the HMAC covers, carries it:

    counter = term << 40 | milliseconds since boot

so it rises within a term by the clock and across terms, restarts and reboots by the term. A frame whose counter does
not rise over the last one accepted is a replay; one whose term is below the highest that is known is stale; a higher
term outranks ours. advbase, advskew and the source address, which the HMAC does not cover, are not looked at.

Not handled: a member that has just started knows no last counter, so frames of the *present* term that were recorded
before may be accepted once each, in their order. They can make a dead owner look alive on the LAN for as long as the
recording lasts; they never grant or end a term, and the owner's other two channels are not theirs to forge.

*Plain*: foreign routers. The lower interval (advbase + advskew/256) wins, then the lower address, as in ip_carp.c and
ucarp. There is no replay check: ucarp draws a new random counter for each advert until it hears another's.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from ipaddress import ip_address

from middlewared.protocol.carp_packet import Frame

TERM_BITS = 24
_MS_BITS = 40
_MS_MASK = (1 << _MS_BITS) - 1


class Rank(Enum):
    """What a frame's sender is to us."""

    BETTER = "better"
    """It outranks us."""
    WORSE = "worse"
    """We outrank it, or it claims what we hold."""
    LEAVING = "leaving"
    """It says that it will not advertise again in time."""


class Refusal(StrEnum):
    """Why an authentic frame is not believed."""

    REPLAY = "counter does not rise"
    STALE = "term is over"
    OWN = "our own frame came back"


def counter_of(term: int, now: float) -> int:
    """The paired counter. term: below 2**24. now: CLOCK_BOOTTIME seconds."""
    return term << _MS_BITS | int(now * 1000) & _MS_MASK


def term_of(counter: int) -> int:
    return counter >> _MS_BITS


class PairedElection:
    """Ranks by the term alone. `term` is the one granted to us, `highest` the highest that we know of."""

    def __init__(self) -> None:
        self.term = 0
        self.highest = 0
        self._accepted = 0
        self._sent = 0

    def admit(self, term: int) -> str | None:
        """Take a granted term as ours; or why it cannot be."""
        if not 0 < term < 1 << TERM_BITS:
            return f"term {term} does not fit a CARP counter"
        if term < self.highest:
            return f"term {term} was granted, but term {self.highest} is known"
        self.term = self.highest = term
        return None

    def learn(self, term: int) -> None:
        """fenced knows of this term, whoever holds it."""
        self.highest = max(self.highest, term)

    def judge(self, frame: Frame, source: str, master: bool) -> Rank | Refusal:
        """Rank an authentic frame. A master hears rivals of older terms too: it must answer them."""
        term = term_of(frame.counter)
        if master and frame.counter == self._sent:
            return Refusal.OWN
        if frame.counter <= self._accepted:
            return Refusal.REPLAY
        if not master and term < self.highest:
            return Refusal.STALE
        self._accepted = frame.counter
        self.learn(term)
        rank = Rank.BETTER if term > self.term else Rank.WORSE
        # A master that is outranked must drop, whatever the winner does next.
        return rank if not frame.is_farewell or (master and rank is Rank.BETTER) else Rank.LEAVING

    def next_counter(self, now: float) -> int:
        """Rises even for two adverts in one millisecond."""
        self._sent = max(counter_of(self.term, now), self._sent + 1)
        return self._sent


class PlainElection:
    """Ranks by interval, then by address.

    interval_s, source: what we advertise. patience_s: how long the master of a group may let us wait. counter: random,
    64 bits, where our counter starts.
    """

    def __init__(self, interval_s: float, patience_s: float, source: str, counter: int) -> None:
        self._ours = (interval_s, ip_address(source).packed)
        self._patience_s = patience_s
        self._counter = counter

    def admit(self, term: int) -> str | None:
        return "foreign routers know no terms"

    def learn(self, term: int) -> None:
        """A plain election knows no terms."""

    def judge(self, frame: Frame, source: str, master: bool) -> Rank | Refusal:
        if frame.interval_s > self._patience_s:
            return Rank.LEAVING
        theirs = (frame.interval_s, ip_address(source).packed)
        return Rank.BETTER if theirs < self._ours else Rank.WORSE

    def next_counter(self, now: float) -> int:
        self._counter = (self._counter + 1) & (1 << 64) - 1
        return self._counter
