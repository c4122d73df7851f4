"""state.db made again from the log, and whether the two agree.

The new file is built beside the old one, from the log alone, and takes its name in one rename; a crash before it
leaves the old file. What the old file knew and the log does not is one number, pair_seq: it is carried over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.event import START, Catalogue, Position, Record, UnknownKind
from middlewared.plugin import Noun
from middlewared.store import sqlite
from middlewared.store.reader import LogReader
from middlewared.store.records import check_chain
from middlewared.store.state import Applied, StateStore, applied_in

_BATCH = 2048


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """applied: the last record that is folded in. digest: of the new rows.

    differed: whether the old file showed other rows at the same record; None where it could not be compared.
    blocked: why the fold ended before its end, None if it did not.
    """

    applied: Position
    digest: str
    differed: bool | None
    blocked: str | None


def open_state(path: Path, log: LogReader, nouns: Iterable[Noun[Any]]) -> tuple[StateStore, str | None]:
    """Open state.db; one that cannot be used is replaced by a new one, at the log's beginning, with the reason.

    Raises LogDamaged when state.db proves that the log lost records, PortFailed when it cannot be written.
    """
    nouns = list(nouns)
    try:
        store = StateStore.open(path, nouns)
    except LogDamaged as e:
        why = str(e)
    else:
        stale = contradiction(store.applied().position, log)
        if stale is None:
            return store, None
        store.close()
        why = stale
    sqlite.remove(path)
    return StateStore.open(path, nouns), why


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
    old, old_digest = _look_at(path, nouns)
    end = log.head().seq
    if upto is None and old is not None and old.position != START and contradiction(old.position, log) is None:
        upto = old.position.seq
    applied, states, blocked = fold(log, catalogue, nouns, end if upto is None else min(upto, end), progress)
    pair_seq = min(old.pair_seq, applied.seq) if old is not None else 0
    unnamed = path.with_name(path.name + ".new")
    sqlite.remove(unnamed)
    store = StateStore.open(unnamed, nouns)
    try:
        store.apply({noun: states[noun.name] for noun in nouns}, applied, pair_seq)
        digest = store.digest(nouns)
    finally:
        store.close()
    _swap(unnamed, path)
    differed = old_digest != digest if old is not None and old.position == applied else None
    return Rebuilt(applied=applied, digest=digest, differed=differed, blocked=blocked)


def fold(
    log: LogReader,
    catalogue: Catalogue,
    nouns: list[Noun[Any]],
    upto: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Position, dict[str, Any], str | None]:
    """The states that follow from the log up to `upto`, every record checked: (where it ended, states, why blocked)."""
    states = {noun.name: noun.initial for noun in nouns}
    noun_of = {cls.kind: noun for noun in nouns for cls in noun.events}
    at = START
    while at.seq < upto:
        batch = log.since(at.seq, min(_BATCH, upto - at.seq))
        if not batch:
            raise LogDamaged(str(log.path), at.seq + 1, "the record is missing")
        last = check_chain(batch, at, log.path)
        for index, record in enumerate(batch):
            try:
                event = catalogue.open(record)
            except (UnknownKind, msgspec.ValidationError) as e:
                at = batch[index - 1].position if index > 0 else at
                return at, states, _why_blocked(record, e)
            noun = noun_of.get(record.kind)
            if noun is not None:
                states[noun.name] = noun.evolve(states[noun.name], event)
        at = last
        if progress is not None:
            progress(at.seq)
    return at, states, None


def _why_blocked(record: Record, error: UnknownKind | msgspec.ValidationError) -> str:
    if isinstance(error, UnknownKind):
        return str(error)
    return f"seq {record.seq}: its payload is no {record.kind}: {error}"


def _look_at(path: Path, nouns: list[Noun[Any]]) -> tuple[Applied | None, str | None]:
    """How far the file at `path` is and the digest of its rows; (None, None) when it cannot be used."""
    if not path.exists():
        return None, None
    try:
        store = StateStore.open(path, nouns)
    except LogDamaged:
        return None, None
    try:
        return store.applied(), store.digest(nouns)
    except LogDamaged:
        return None, None
    finally:
        store.close()


def _swap(new: Path, path: Path) -> None:
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
