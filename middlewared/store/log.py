"""log.db: the append-only log of events, durable before anybody is told.

One thread appends; it owns the only connection that writes. Readers have connections of their own and see whole
groups only. What is appended is checked against the head first, and the head is read back after the commit: a
follower acknowledges that position and nothing else.

A commit that fails ends this LogStore. After EIO the kernel may have dropped the pages that were to be written and
call the next fsync a success; what is durable is known only from opening the file anew. Source: Rebello et al.,
"Can Applications Recover from fsync Failures?", USENIX ATC 2020. After a write that found no space nothing of it was
committed and no page was lost: `reopen` makes the same LogStore usable again, from what the file then holds.

The database refuses UPDATE and DELETE, and any INSERT but at the end (schema.py); the one way out is `cut`. Damage is
looked for in the -wal file and the last records at every open, and in the whole log by `verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine

from middlewared.kernel.errors import Diverged, LogDamaged, MiddlewareError, OutOfSpace, PortFailed
from middlewared.kernel.event import START, Position, Record, chained
from middlewared.store import cut, records, schema, sqlite
from middlewared.store.reader import LogReader
from middlewared.store.verify import refuse_lost_frames, verify

_PURPOSE = "commit the log"
TAIL = 256
"""How many of the last records are checked at every open."""


class LogStore(LogReader):
    """The open log. Everything is synchronous: `append` and `cut` belong to the writer's thread, the rest to any."""

    def __init__(self, path: Path, engine: Engine) -> None:
        super().__init__(path)
        self._engine = engine
        self._writer = engine.connect()
        self._readback = self._readers.connect()
        self._head = START
        self._revision = ""
        self._failure: MiddlewareError | None = None

    @classmethod
    def open(cls, path: Path) -> LogStore:
        """Open the log at `path`, made and migrated where it must be, and check its end.

        Raises LogDamaged when the -wal file or the last records are not what was written, PortFailed when the file
        cannot be opened or written, or was written by a newer build.
        """
        refuse_lost_frames(path)
        with sqlite.sentences(path, f"open {path}"):
            log = cls(path, sqlite.writer(path, "FULL"))
            try:
                log._begin()
            except BaseException:
                log.close()
                raise
        return log

    def close(self) -> None:
        """Move the -wal file's content into the database and let go of both."""
        self._readback.close()
        super().close()
        self._writer.close()
        self._engine.dispose()

    def append(self, group: Sequence[Record]) -> Position:
        """Make `group` durable in one transaction, and answer the head as it is read back from the database.

        Raises Diverged, and stores nothing, when the records do not follow the head. Raises PortFailed when the
        commit is not known to be durable, OutOfSpace when there was no room; from then on every append does, until the
        log is opened anew.
        """
        self._refuse_after_failure()
        expected, why = chained(group, self._head)
        if why is not None:
            raise Diverged(f"{self.path}: a record that cannot follow seq {expected.seq} is refused: {why}")
        try:
            if self._revision < schema.WITH_METHOD and records.need_method(group):
                self._widen()
            with sqlite.transaction(self._writer):
                records.put(self._writer, group, self._head)
            self._head = records.head(self._readback)
        except sqlite.Failure as e:
            raise self._fail(e) from e
        if self._head != expected:
            raise self._fail(f"it ends at seq {self._head.seq} after a commit up to seq {expected.seq}")
        return self._head

    def cut(self, after: Position, quarantine: Path, *, pair_seq: int = 0, committed_seq: int = 0) -> cut.Cut | None:
        """Set every record after `after` aside in the directory `quarantine`, and take it off the log.

        pair_seq: the last seq known durable on both controllers. committed_seq: the last one known committed; the
        file's name tells how many of its records were. None when nothing comes after.
        Raises Diverged when the tail holds a record that was acknowledged at level pair, or when `after` is not in
        this log; PortFailed when the tail could not be set aside or taken off.
        """
        self._refuse_after_failure()
        if after.seq < min(pair_seq, self._head.seq):
            raise Diverged(f"{self.path}: seq {after.seq + 1} to {pair_seq} are durable on both, none of them is cut")
        mine = self.at(after.seq)
        if (START if mine is None else mine.position) != after:
            raise Diverged(f"{self.path}: seq {after.seq} of term {after.term} is not in this log")
        try:
            done = cut.cut_tail(self._writer, self.path, after, quarantine, committed_seq)
            self._head = self.head()
        except sqlite.Failure as e:
            raise self._fail(e) from e
        return done

    def verify(self, progress: Callable[[int], None] | None = None) -> Position:
        """Walk the whole log; see verify.verify."""
        return verify(self.path, progress)

    def _widen(self) -> None:
        """From here on the file is for this build and newer ones only."""
        with self._writer.begin():
            schema.migrate(self._writer, "log", schema.WITH_METHOD)
        self._revision = schema.WITH_METHOD

    def reopen(self) -> Position:
        """After OutOfSpace: let go of the connection that writes, open the file anew, and check its end as at a start.

        Returns where the log ends. Raises as `open` does; OutOfSpace, when there is still no room, may be tried again.
        """
        if self._failure is not None and not isinstance(self._failure, OutOfSpace):
            raise self._failure
        self._readback.close()
        self._writer.close()
        self._engine.dispose()
        refuse_lost_frames(self.path)
        with sqlite.sentences(self.path, f"open {self.path}"):
            self._engine = sqlite.writer(self.path, "FULL")
            self._writer = self._engine.connect()
            self._readback = self._readers.connect()
            self._begin()
        self._failure = None
        return self._head

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, cause: Exception | str) -> MiddlewareError:
        """The commit did not succeed; only a lack of space is known to have left the file as it was."""
        said = sqlite.meaning(cause, self.path, _PURPOSE) if isinstance(cause, Exception) else None
        if not isinstance(said, PortFailed):
            said = PortFailed(_PURPOSE, f"{self.path}: {getattr(cause, 'orig', None) or cause}")
        self._failure = said
        return said

    def _begin(self) -> None:
        self._revision = schema.bring_current(self._engine, "log")
        self._head = self.head()
        first = max(self._head.seq - TAIL, 0)
        anchor = self.at(first)
        if anchor is None and first > 0:
            raise LogDamaged(str(self.path), first, "the record is missing")
        before = START if anchor is None else anchor.position
        records.check_chain(self.since(first, TAIL), before, self.path)
        ends = [Position(seq, term, hash_) for term, seq, hash_ in self.term_history()[-1:]] or [START]
        if ends != [self._head]:
            raise LogDamaged(str(self.path), self._head.seq, "the table of terms does not end with the log")
