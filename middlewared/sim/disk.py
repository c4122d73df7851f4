"""The two databases of one controller, on a disk that stalls, fails and loses.

log.db is synchronous: a group that was answered is there for good; one that was under way when the process or the power
went is there whole or not at all. state.db may lose its last transactions with the power, never one in part. That
SQLite keeps exactly this is what the crash enumeration of the store proves; here it is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from middlewared.engine.registry import Registry
from middlewared.kernel.errors import Diverged, LogDamaged, OutOfSpace, PortFailed
from middlewared.kernel.event import START, Headline, Position, Record, follows
from middlewared.kernel.outcomes import Delta, Key, LogTime, Outcome, Outcomes
from middlewared.plugin import Noun
from middlewared.store.cut import Cut
from middlewared.store.rows import Rows, shape_of
from middlewared.store.state import UNKNOWN, Applied

NO_ROOM = "No space left on device"
STATE_UNSYNCED = 4
"""So many transactions of state.db a power cut may take back."""


class Failure(NamedTuple):
    """landed: the group is on the disk all the same."""

    error: PortFailed
    landed: bool


class Projected(NamedTuple):
    """What state.db holds after one of its transactions. commands, time: of the index of outcomes."""

    states: dict[str, Any]
    applied: Applied
    commands: dict[Key, Outcome]
    time: LogTime


class Platter:
    """What one controller's disk holds, through every crash, and what ails it.

    commit_s, stall_s: what a commit takes, and what one takes on a disk that stalls. full: nothing can be written.
    broken_in: the commit, counted from now, that fails; None: none does.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.records: list[Record] = []
        self.cuts: list[Cut] = []
        self.quarantine: list[Record] = []
        self.states: list[Projected] = []
        self.commit_s = 0.001
        self.stalls = 0.0
        self.stall_s = 0.0
        self.full = False
        self.broken_in: int | None = None

    def heal(self) -> None:
        self.stalls = self.stall_s = 0.0
        self.full, self.broken_in = False, None

    def delay_s(self) -> float:
        if self.stalls and self._random.random() < self.stalls:
            return self._random.random() * self.stall_s
        return self.commit_s * (0.5 + self._random.random())

    def quick_s(self) -> float:
        return 0.0001

    def power_cut(self) -> None:
        """The last transactions of state.db may be gone."""
        lost = self._random.randrange(STATE_UNSYNCED + 1)
        if lost:
            del self.states[max(1, len(self.states) - lost) :]

    def write_state(self, projected: Projected) -> None:
        self.states = [*self.states[-STATE_UNSYNCED:], projected]

    def at(self, seq: int) -> Record | None:
        return self.records[seq - 1] if 0 < seq <= len(self.records) else None

    def fails(self) -> Failure | None:
        """Whether, and how, the commit under way fails."""
        if self.full:
            return Failure(OutOfSpace("commit the log", NO_ROOM), landed=False)
        if self.broken_in is None:
            return None
        self.broken_in -= 1
        if self.broken_in > 0:
            return None
        self.broken_in = None
        return Failure(PortFailed("commit the log", "Input/output error"), landed=self._random.random() < 0.5)


class SimLog:
    """engine.outside.Log: store.log.LogStore on a Platter. on_stored: each group as it became durable."""

    def __init__(self, platter: Platter, on_stored: Callable[[Sequence[Record]], None]) -> None:
        self._platter = platter
        self._on_stored = on_stored
        self._failed: PortFailed | None = None

    def head(self) -> Position:
        return self._platter.records[-1].position if self._platter.records else START

    def at(self, seq: int) -> Record | None:
        return self._platter.at(seq)

    def since(self, seq: int, limit: int) -> list[Record]:
        return self._platter.records[seq : seq + limit]

    def checked(self, seq: int, limit: int) -> tuple[Position, list[Record]]:
        at = self.at(seq)
        return (at.position if at is not None else START), self.since(seq, limit)

    def headlines(self, after: int, upto: int) -> list[Headline]:
        return [Headline(r.seq, r.term, r.kind) for r in self._platter.records[after:upto]]

    def of_kinds(self, kinds: Sequence[str], seq: int, upto: int, limit: int) -> list[Record]:
        return [record for record in self._platter.records[seq:upto] if record.kind in kinds][:limit]

    def term_history(self) -> list[tuple[int, int, bytes]]:
        return list({r.term: (r.term, r.seq, r.hash) for r in self._platter.records}.values())

    def append(self, group: Sequence[Record]) -> Position:
        self._refuse_after_failure()
        expected = self.head()
        for record in group:
            why = follows(record, expected)
            if why is not None:
                raise Diverged(f"a record that cannot follow seq {expected.seq} is refused: {why}")
            expected = record.position
        failure = self._platter.fails()
        if failure is None or failure.landed:
            self._platter.records += group
            self._on_stored(group)
        if failure is not None:
            raise self._fail(failure.error)
        return self.head()

    def reopen(self) -> Position:
        self._failed = None
        return self.head()

    def cut(self, after: Position, quarantine: object, *, pair_seq: int = 0, committed_seq: int = 0) -> Cut | None:
        self._refuse_after_failure()
        platter = self._platter
        if after.seq < min(pair_seq, len(platter.records)):
            raise Diverged(f"seq {after.seq + 1} to {pair_seq} are durable on both, none of them is cut")
        mine = self.at(after.seq)
        if (START if mine is None else mine.position) != after:
            raise Diverged(f"seq {after.seq} of term {after.term} is not in this log")
        tail = platter.records[after.seq :]
        if not tail:
            return None
        if platter.full:
            raise self._fail(OutOfSpace("cut the log", NO_ROOM))
        platter.quarantine += tail
        del platter.records[after.seq :]
        done = Cut(at=0, first=after.seq + 1, last=tail[-1].seq, n=len(tail), digest="", file="")
        platter.cuts.append(done)
        return done

    def _refuse_after_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _fail(self, error: PortFailed) -> PortFailed:
        self._failed = error
        return error


class SimState:
    """engine.outside.Projections: state.db on a Platter, with the rows and the digest of the real one."""

    def __init__(self, platter: Platter, nouns: Iterable[Noun[Any]]) -> None:
        self._platter = platter
        nouns = list(nouns)
        self.shape = shape_of(noun.table for noun in nouns)
        if not platter.states:
            platter.states.append(
                Projected({noun.name: noun.initial for noun in nouns}, Applied(START, 0), {}, LogTime())
            )
        self._states = dict(platter.states[-1].states)
        self.rows = Rows(noun.table for noun in nouns)
        for noun in nouns:
            self.rows.load(noun.table.name, noun.project(self._states[noun.name]))

    def applied(self) -> Applied:
        return self._platter.states[-1].applied

    def load(self, nouns: Iterable[Noun[Any]]) -> dict[str, Any]:
        stored = self._platter.states[-1].states
        return {noun.name: noun.restore(noun.project(stored[noun.name])) for noun in nouns}

    def outcomes(self) -> Outcomes:
        last = self._platter.states[-1]
        return Outcomes(last.commands.items(), last.time)

    def project(self, changed: Mapping[Noun[Any], Any]) -> str:
        for noun, state in changed.items():
            self.rows.replace(noun.table.name, noun.project(state))
            self._states[noun.name] = state
        return self.rows.digest

    def write(self, applied: Position, pair_seq: int, commands: Delta | None = None) -> None:
        if self._platter.full:
            raise OutOfSpace("write the projections", NO_ROOM)
        last = self._platter.states[-1]
        kept, time = last.commands, last.time
        if commands is not None:
            kept = {key: outcome for key, outcome in kept.items() if outcome.first >= commands.oldest}
            kept |= dict(commands.ended)
            time = commands.time
        self._platter.write_state(Projected(dict(self._states), Applied(applied, pair_seq), kept, time))

    @property
    def digest(self) -> str:
        return self.rows.digest

    def close(self) -> None:
        pass


def open_state(platter: Platter, registry: Registry) -> SimState:
    """As store.rebuild.open_state: projections that are missing or do not belong to the log are folded anew from it.

    Raises LogDamaged when they show a record that the log had and lost.
    """
    at = platter.states[-1].applied.position if platter.states else START
    mine = platter.at(at.seq)
    belongs = at == (START if mine is None else mine.position)
    if not belongs and not any(cut.first <= at.seq for cut in platter.cuts):
        raise LogDamaged("state.db", at.seq, "it has this record applied, but the log does not hold it")
    if not belongs or (at == START and platter.records):
        platter.states.clear()
        rebuild(platter, registry, len(platter.records))
    return SimState(platter, registry.nouns.values())


def rebuild(platter: Platter, registry: Registry, upto: int) -> None:
    """As store.rebuild.rebuild: fold the log up to `upto`; what the old file knew of level pair is carried over."""
    states: dict[str, Any] = {noun.name: noun.initial for noun in registry.nouns.values()}
    commands = Outcomes()
    for record in platter.records[:upto]:
        name = registry.noun_of.get(record.kind)
        if name is not None:
            states[name] = registry.nouns[name].evolve(states[name], registry.catalogue.open(record))
    commands.fold(platter.records[:upto])
    pair_seq = min(platter.states[-1].applied.pair_seq, upto) if platter.states else UNKNOWN
    end = platter.at(upto)
    delta = commands.delta(0)
    applied = Applied(START if end is None else end.position, pair_seq)
    platter.states = [Projected(states, applied, dict(delta.ended), delta.time)]


def digest_of(states: Mapping[str, Any]) -> str:
    """Equal where the states are."""
    return repr(sorted(states.items()))
