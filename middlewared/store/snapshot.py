"""Snapshots of state.db: taken while it is written, made anew beside it, and put in its place.

A snapshot is a copy by SQLite's backup API, within one read transaction and in small steps: in WAL mode a reader holds
no writer up, and within one transaction the copy shows one point of the log. The copy is opened as a state.db is, so
its rows must give the digest that stands beside them, before its manifest is said.

Whatever replaces state.db is finished, closed and synced under another name first, and takes its place in one rename.
The old file stays as `state.db.old` until the new one is open; a crash leaves a whole state.db at every point.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from middlewared.kernel.errors import LogDamaged, MiddlewareError, PortFailed
from middlewared.kernel.event import Catalogue, Position, Record
from middlewared.kernel.manifest import Manifest
from middlewared.plugin import Noun
from middlewared.store import sqlite
from middlewared.store.reader import LogReader
from middlewared.store.rebuild import fold
from middlewared.store.state import StateStore

BESIDE = ".beside"
COPY = "snapshot.db"
PARTIAL = "snapshot.partial"


def take(state: Path, copy: Path, id_: str, log_format: int, nouns: Iterable[Noun[Any]]) -> Manifest:
    """Copy the state.db at `state` to `copy`, check the copy, and say what it is.

    Blocks for as long as it takes; needs no lock of the writer's. Raises PortFailed, and LogDamaged where the rows of
    the copy do not give their digest.
    """
    sqlite.remove(copy)
    try:
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with sqlite.sentences(state, "take a snapshot"):
            sqlite.copy(state, copy, "SELECT * FROM applied")
        store = StateStore.open(copy, nouns)
        at = store.applied().position
        store.close()
        sqlite.refuse_unfinished(copy)
        size, sha256 = _sum(copy)
    except OSError as e:
        raise PortFailed("take a snapshot", f"{copy}: {e.strerror}") from None
    return Manifest(
        id=id_,
        seq=at.seq,
        term=at.term,
        hash=at.hash,
        log_format=log_format,
        shape=store.shape,
        digest=store.digest,
        size=size,
        sha256=sha256,
    )


def read(copy: Path, offset: int, length: int) -> bytes:
    """A piece of a snapshot. Raises PortFailed."""
    try:
        with copy.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as e:
        raise PortFailed("read a snapshot", f"{copy}: {e.strerror}") from None


def keep(partial: Path, offset: int, data: bytes) -> None:
    """Write a piece at its offset. Raises PortFailed."""
    try:
        partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with partial.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)
    except OSError as e:
        raise PortFailed("keep a piece of a snapshot", f"{partial}: {e.strerror}") from None


def why_refused(partial: Path, manifest: Manifest, shape: str, mine: Position | None) -> str | None:
    """Why what was fetched may not be installed, before it is opened; None if it may. Syncs the file.

    shape: of this build's state. mine: this log's record at the manifest's seq, where it is committed.
    """
    if manifest.shape != shape:
        return "it is of a build with other tables"
    if mine != Position(manifest.seq, manifest.term, manifest.hash):
        return f"this log does not hold its record {manifest.seq}"
    try:
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        found = _sum(partial)
    except OSError as e:
        raise PortFailed("check a snapshot", f"{partial}: {e.strerror}") from None
    return None if found == (manifest.size, manifest.sha256) else "its bytes are not those that were sent"


def _sum(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


class Beside:
    """A state.db that is made beside the one at `path`, from the log alone or from a snapshot on.

    Blocking; one thread at a time. Every method raises LogDamaged and PortFailed.
    """

    def __init__(
        self, log: LogReader, path: Path, catalogue: Catalogue, nouns: Iterable[Noun[Any]], snapshot: Path | None = None
    ) -> None:
        self._log = log
        self._path = path
        self._catalogue = catalogue
        self._nouns = list(nouns)
        self._new = path.with_name(path.name + BESIDE)
        sqlite.remove(self._new)
        if snapshot is not None:
            try:
                snapshot.rename(self._new)
            except OSError as e:
                raise PortFailed("install a snapshot", f"{snapshot}: {e.strerror}") from None
        self._store = StateStore.open(self._new, self._nouns)
        self.at = self._store.applied().position
        self.digest = self._store.digest
        self._states = self._store.load(self._nouns)

    def to(self, seq: int, progress: Callable[[int], None] | None = None) -> str:
        """Fold on up to `seq`. Returns the digest there."""
        if seq > self.at.seq:
            self.at, self._states, blocked = fold(
                self._log, self._catalogue, self._nouns, seq, progress, at=self.at, states=self._states
            )
            if blocked is not None:
                raise PortFailed("fold the log anew", blocked)
        self.digest = self._store.project({noun: self._states[noun.name] for noun in self._nouns})
        return self.digest

    def finish(self, pair_seq: int) -> None:
        """Write what was folded, and close the file."""
        self._store.write(self.at, min(pair_seq, self.at.seq))
        self._store.close()
        sqlite.refuse_unfinished(self._new)

    def drop(self) -> None:
        """It is not wanted."""
        self._store.close()
        sqlite.remove(self._new)

    def swap(self) -> StateStore:
        """Put it in the place of state.db, which nobody has open any more, and open it.

        One that cannot be opened there leaves the old file in its place, and raises.
        """
        old = self._path.with_name(self._path.name + ".old")
        try:
            sqlite.remove(old)
            with self._new.open("rb") as file:
                os.fsync(file.fileno())
            for beside in sqlite.beside(self._path):
                # Left where another process reads: SQLite would play it into the new file.
                beside.unlink(missing_ok=True)
            old.hardlink_to(self._path)
            self._new.rename(self._path)
            sqlite.sync_directory(self._path.parent)
        except OSError as e:
            raise PortFailed("put the new projections in place", f"{self._path}: {e.strerror}") from None
        try:
            store = StateStore.open(self._path, self._nouns)
        except MiddlewareError:
            sqlite.remove(self._path)
            try:
                old.rename(self._path)
            except OSError as e:
                raise PortFailed("put the old projections back", f"{self._path}: {e.strerror}") from None
            raise
        return store


def forget_old(path: Path) -> None:
    """The state.db at `path` is open and goes on: the one before it is not needed any longer."""
    sqlite.remove(path.with_name(path.name + ".old"))


def clear(path: Path) -> None:
    """Remove what a process that was killed left beside the state.db at `path`, which is open and goes on."""
    forget_old(path)
    for name in (path.name + BESIDE, COPY, PARTIAL):
        sqlite.remove(path.with_name(name))


def between(log: LogReader, after: int, upto: int) -> list[Record]:
    """The records after `after` and up to `upto`. Raises LogDamaged where one is missing."""
    count = max(0, upto - after)
    found = log.since(after, count)
    if len(found) != count:
        raise LogDamaged(str(log.path), upto, "the record is missing")
    return found
