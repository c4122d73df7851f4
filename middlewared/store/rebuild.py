"""state.db made again from the log, and whether the two agree.

The new file is built beside the old one, from the log alone, and takes its name in one rename; a crash before it
leaves the old file. What the old file knew and the log does not is carried over: pair_seq, and that all it showed was
committed. Where there is no old file, the new one shows the whole log and says that it may show too much (UNKNOWN).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.event import START, Catalogue, Position, Record, UnknownKind
from middlewared.kernel.outcomes import Outcomes
from middlewared.plugin import Noun
from middlewared.store import sqlite
from middlewared.store.outcomes import RECORDS
from middlewared.store.reader import LogReader
from middlewared.store.records import check_chain
from middlewared.store.rows import Difference, Rows
from middlewared.store.state import UNKNOWN, Applied, RowsChanged, StateStore, applied_in

_BATCH = 2048


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """applied: the last record that is folded in. digest: of the new rows.

    differed: whether the old file showed other rows at the same record; None where it could not be compared.
    difference: the first of them; `here` is the old file. blocked: why the fold ended early, None if it did not.
    """

    applied: Position
    digest: str
    differed: bool | None
    difference: Difference | None
    blocked: str | None


class _Old(NamedTuple):
    applied: Applied
    rows: Rows


class Opened(NamedTuple):
    """why: the reason for which the projections were made again from the log; None where they were as they must be."""

    store: StateStore
    why: str | None
    difference: Difference | None


def open_state(path: Path, log: LogReader, catalogue: Catalogue, nouns: Iterable[Noun[Any]]) -> Opened:
    """Open state.db; one that is missing or cannot be believed is made again from the log.

    Raises LogDamaged when state.db proves that the log lost records, PortFailed when it cannot be written.
    """
    nouns = list(nouns)
    difference = None
    try:
        store = StateStore.open(path, nouns)
    except RowsChanged as e:
        why = str(e)
        difference = rebuild(log, path, catalogue, nouns).difference
    except LogDamaged as e:
        why = str(e)
        sqlite.remove(path)
        rebuild(log, path, catalogue, nouns)
    else:
        at = store.applied().position
        stale = contradiction(at, log)
        if stale is None and (at != START or log.head() == START):
            return Opened(store, None, None)
        store.close()
        why = stale or "there was no state.db"
        if stale is not None:
            sqlite.remove(path)
        rebuild(log, path, catalogue, nouns)
    return Opened(StateStore.open(path, nouns), why, difference)


def contradiction(applied: Position, log: LogReader) -> str | None:
    """Why the projections do not belong to this log any more; None when they do.

    Raises LogDamaged when no cut explains it: then the log has lost records that it held before.
    """
    mine = log.at(applied.seq)
    if applied == (START if mine is None else mine.position):
        return None
    if any(cut.first <= applied.seq for cut in log.cuts()):
        return f"seq {applied.seq} was cut from the log after it was applied"
    what = "does not hold it" if mine is None else "holds another record there"
    raise LogDamaged(str(log.path), applied.seq, f"state.db has this record applied, but the log {what}")


def check_beside(path: Path) -> None:
    """Raise LogDamaged when the state.db beside the log at `path` proves that the log lost records. Reads only."""
    state = path.with_name("state.db")
    if not state.exists():
        return
    try:
        applied = applied_in(state)
    except LogDamaged:
        return  # of the projections; it says nothing of the log
    with LogReader(path, untouched=True) as log:
        contradiction(applied.position, log)


def rebuild(
    log: LogReader,
    path: Path,
    catalogue: Catalogue,
    nouns: Iterable[Noun[Any]],
    upto: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rebuilt:
    """Fold the log up to seq `upto` into a new state.db at `path`, and compare it with the old one.

    upto None: as far as the old file is, because what comes after may not be committed yet; the whole log where there
    is no old file of this log. Nobody may have the old file open. An event that this build cannot read ends the fold.
    progress: called with each seq that is reached, in steps.

    Raises LogDamaged for a log that is not intact, or that the old file proves to have lost records.
    """
    nouns = list(nouns)
    old = _look_at(path, nouns)
    end = log.head().seq
    if upto is None and old is not None and old.applied.position != START:
        upto = old.applied.position.seq if contradiction(old.applied.position, log) is None else None
    known = None if old is None or upto is None else old.applied.pair_seq
    commands = Outcomes()
    upto = end if upto is None else min(upto, end)
    applied, states, blocked = fold(log, catalogue, nouns, upto, progress, commands)
    pair_seq = UNKNOWN if known is None else min(known, applied.seq)
    unnamed = path.with_name(path.name + ".new")
    sqlite.remove(unnamed)
    store = StateStore.open(unnamed, nouns)
    try:
        store.apply({noun: states[noun.name] for noun in nouns}, applied, pair_seq, commands.delta(0))
    finally:
        store.close()
    _swap(unnamed, path)
    comparable = old is not None and old.applied.position == applied
    return Rebuilt(
        applied=applied,
        digest=store.digest,
        differed=old.rows.digest != store.digest if old is not None and comparable else None,
        difference=old.rows.first_difference(store.rows) if old is not None and comparable else None,
        blocked=blocked,
    )


def fold(
    log: LogReader,
    catalogue: Catalogue,
    nouns: list[Noun[Any]],
    upto: int,
    progress: Callable[[int], None] | None = None,
    commands: Outcomes | None = None,
    at: Position = START,
    states: Mapping[str, Any] | None = None,
) -> tuple[Position, dict[str, Any], str | None]:
    """The states that follow from the log up to `upto`, every record checked: (where it ended, states, why blocked).

    commands: where what became of the last of them is folded. at, states: where to begin; otherwise the log's
    beginning, with the nouns' initial states.
    """
    states = {noun.name: noun.initial for noun in nouns} if states is None else dict(states)
    noun_of = {cls.kind: noun for noun in nouns for cls in noun.events}
    # Older ones would be forgotten again, at a third of what the whole fold costs.
    commands_after = upto - RECORDS
    while at.seq < upto:
        batch = log.since(at.seq, min(_BATCH, upto - at.seq))
        if not batch:
            raise LogDamaged(str(log.path), at.seq + 1, "the record is missing")
        last = check_chain(batch, at, log.path)
        for index, record in enumerate(batch):
            try:
                event = catalogue.open(record)
                noun = noun_of.get(record.kind)
                if noun is not None:
                    states[noun.name] = noun.evolve(states[noun.name], event)
            except (UnknownKind, msgspec.ValidationError) as e:
                at = batch[index - 1].position if index > 0 else at
                return at, states, _why_blocked(record, e)
            if commands is not None and record.seq > commands_after:
                commands.fold((record,))
        at = last
        if progress is not None:
            progress(at.seq)
    return at, states, None


def _why_blocked(record: Record, error: UnknownKind | msgspec.ValidationError) -> str:
    if isinstance(error, UnknownKind):
        return str(error)
    return f"seq {record.seq}: its payload is no {record.kind}: {error}"


def _look_at(path: Path, nouns: list[Noun[Any]]) -> _Old | None:
    """What the file at `path` shows, whether it was written so or not; None when it cannot be used."""
    if not path.exists():
        return None
    try:
        store = StateStore.open(path, nouns)
    except RowsChanged as e:
        return _Old(e.applied, e.rows)
    except LogDamaged:
        return None
    try:
        return _Old(store.applied(), store.rows)
    except LogDamaged:
        return None
    finally:
        store.close()


def _swap(new: Path, path: Path) -> None:
    sqlite.refuse_unfinished(new)
    try:
        with new.open("rb") as file:
            os.fsync(file.fileno())
        if sqlite.wal_of(path).exists():
            # Left by a file that could not be opened and closed: SQLite would play it into the new one.
            sqlite.remove(path)
        new.rename(path)
        sqlite.sync_directory(path.parent)
    except OSError as e:
        raise PortFailed("put the new projections in place", f"{path}: {e.strerror}") from None
