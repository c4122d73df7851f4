"""Small questions between the two daemons about what only the other one knows: its alerts, its jobs, its audit.

Theory
------
They share the line of the replicated log and nothing else with it. A question names a method that a plugin of the
other controller declared for this; it is answered once, or the asker is told within its deadline why not. Nothing is
asked again: who wants that asks anew.

    asker       ASK(id, method, params, timeout_ms)      only where the other's HELLO named the feature "ask"
    answerer    ANSWER(id, result) or ANSWER(id, error)  error: errno and a sentence

Rules:

* An id is used once on a line. An answer to a question that was given up is dropped.
* A line that goes down ends every question on it, both ways: the answers would have nobody to go to.
* Both sides count. At most ASKS_LIMIT questions of one side are under way; the answerer refuses what is beyond it, so
  a peer of another build cannot flood this one.
* The answerer stops when the asker's time is over, whether or not it hears of that.
* An answer is at most MAX_ANSWER bytes; what is larger is asked for in pages.

Deliberately not here: retries, order between questions, and who may ask: both daemons of a pair trust each other, as
the line's certificates prove who they are.

The caller performs the actions in order. Carry -> Done; Stop needs no answer.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from middlewared.kernel.errors import CallFailed

FEATURE = "ask"
ASKS_LIMIT = 32
MAX_ANSWER = 1024 * 1024 - 64
TIMEOUT_S = 2.0
TIMEOUT_LIMIT_S = 60.0

# --- frames ----------------------------------------------------------------------------------------------------------


class Fault(msgspec.Struct, frozen=True):
    """Why there is no result."""

    errno: int
    reason: str


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    id: int
    method: str
    params: tuple[object, ...]
    timeout_ms: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    id: int
    result: object = None
    error: Fault | None = None


# --- in --------------------------------------------------------------------------------------------------------------


class Up(msgspec.Struct, frozen=True):
    """The peer's HELLO was taken. features: what both ends can do."""

    features: frozenset[str]


class Down(msgspec.Struct, frozen=True):
    """The line is closed."""


class Wanted(msgspec.Struct, frozen=True):
    """Somebody here asks. key: the caller's own name for it, given back with Ended."""

    key: int
    method: str
    params: tuple[object, ...]
    timeout_s: float


class Unwanted(msgspec.Struct, frozen=True):
    """Who asked has gone."""

    key: int


class Got(msgspec.Struct, frozen=True):
    frame: Ask | Answer


class Done(msgspec.Struct, frozen=True):
    """What became of Carry. outcome: the result as it goes on the wire, or why there is none."""

    id: int
    outcome: msgspec.Raw | Fault


class Tick(msgspec.Struct, frozen=True):
    """The deadline passed."""


Message: TypeAlias = Up | Down | Wanted | Unwanted | Got | Done | Tick

# --- out -------------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    frame: Ask | Answer


class Carry(msgspec.Struct, frozen=True):
    """Find the answer to the peer's question; Done says it."""

    id: int
    method: str
    params: tuple[object, ...]


class Stop(msgspec.Struct, frozen=True):
    """Nobody waits for the answer to this question any longer."""

    id: int


class Ended(msgspec.Struct, frozen=True):
    """What became of a question of this side."""

    key: int
    outcome: object | Fault


Action: TypeAlias = Send | Carry | Stop | Ended

AWAY = Fault(errno.ENOTCONN, "The other controller is not connected")
OLD = Fault(errno.EOPNOTSUPP, "The other controller runs a version that answers no questions")
BUSY = Fault(errno.EBUSY, f"{ASKS_LIMIT} questions to the other controller are under way")


class _Asked(msgspec.Struct, frozen=True):
    key: int
    method: str
    timeout_s: float
    until: float


class PeerCalls:
    """One side of it. `now` is CLOCK_BOOTTIME in seconds, handed in with every message."""

    def __init__(self) -> None:
        self._features: frozenset[str] | None = None
        self._last_id = 0
        self._asked: dict[int, _Asked] = {}
        self._carrying: dict[int, float] = {}
        """The peer's questions that are being answered, and when its patience ends."""

    def deadline(self) -> float | None:
        """When to send a Tick, in CLOCK_BOOTTIME seconds; None: not needed."""
        ends = [asked.until for asked in self._asked.values()] + list(self._carrying.values())
        return min(ends, default=None)

    def receive(self, message: Message, now: float) -> Sequence[Action]:
        """Take one message; perform the returned actions in order."""
        match message:
            case Up():
                ended = self._down()
                self._features = message.features
                return ended
            case Down():
                return self._down()
            case Wanted():
                return self._ask(message, now)
            case Unwanted():
                self._asked = {id_: asked for id_, asked in self._asked.items() if asked.key != message.key}
                return []
            case Got():
                return self._got(message.frame, now)
            case Done():
                return self._answer(message)
            case Tick():
                return self._give_up(now)

    def _got(self, frame: Ask | Answer, now: float) -> list[Action]:
        if isinstance(frame, Ask):
            return self._take(frame, now)
        asked = self._asked.pop(frame.id, None)
        return [] if asked is None else [Ended(asked.key, frame.error or frame.result)]

    def _down(self) -> list[Action]:
        self._features = None
        ended: list[Action] = [Ended(asked.key, AWAY) for asked in self._asked.values()]
        ended += [Stop(id_) for id_ in self._carrying]
        self._asked.clear()
        self._carrying.clear()
        return ended

    def _ask(self, wanted: Wanted, now: float) -> list[Action]:
        if self._features is None:
            return [Ended(wanted.key, AWAY)]
        if FEATURE not in self._features:
            return [Ended(wanted.key, OLD)]
        if len(self._asked) >= ASKS_LIMIT:
            return [Ended(wanted.key, BUSY)]
        self._last_id += 1
        self._asked[self._last_id] = _Asked(wanted.key, wanted.method, wanted.timeout_s, now + wanted.timeout_s)
        return [Send(Ask(self._last_id, wanted.method, wanted.params, round(wanted.timeout_s * 1000)))]

    def _take(self, ask: Ask, now: float) -> list[Action]:
        if ask.id in self._carrying or len(self._carrying) >= ASKS_LIMIT:
            return [Send(Answer(ask.id, error=BUSY))]
        self._carrying[ask.id] = now + min(ask.timeout_ms / 1000, TIMEOUT_LIMIT_S)
        return [Carry(ask.id, ask.method, ask.params)]

    def _answer(self, done: Done) -> list[Action]:
        if self._carrying.pop(done.id, None) is None:
            return []
        if isinstance(done.outcome, Fault):
            return [Send(Answer(done.id, error=done.outcome))]
        size = memoryview(done.outcome).nbytes
        if size > MAX_ANSWER:
            reason = f"The answer has {size} bytes, {MAX_ANSWER} are allowed"
            return [Send(Answer(done.id, error=Fault(errno.EMSGSIZE, reason)))]
        return [Send(Answer(done.id, done.outcome))]

    def _give_up(self, now: float) -> list[Action]:
        late = [id_ for id_, asked in self._asked.items() if asked.until <= now]
        over = [id_ for id_, until in self._carrying.items() if until <= now]
        actions: list[Action] = []
        for id_ in late:
            asked = self._asked.pop(id_)
            reason = f"The other controller did not answer {asked.method} within {asked.timeout_s:g} s"
            actions.append(Ended(asked.key, Fault(errno.ETIMEDOUT, reason)))
        for id_ in over:
            del self._carrying[id_]
            actions.append(Stop(id_))
        return actions


def failed(fault: Fault) -> CallFailed:
    """What is raised for a question that was not answered."""
    return CallFailed(fault.errno, fault.reason)
