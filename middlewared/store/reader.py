"""Reading log.db, beside whoever writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from middlewared.kernel.audit import Filter
from middlewared.kernel.event import START, Headline, Position, Record
from middlewared.store import cut, records, sqlite


class LogReader:
    """The log at `path`, for any thread, as it is at each call: whole groups, nothing that is not durable.

    untouched: leave no file beside it (sqlite.reader). Every method raises LogDamaged for what cannot be read as a
    record, and PortFailed when the file cannot be read at all. Hashes are checked by `verify` and
    `checked` only.
    """

    def __init__(self, path: Path, *, untouched: bool = False) -> None:
        self.path = path
        self._readers = sqlite.reader(path, untouched=untouched)

    def close(self) -> None:
        self._readers.dispose()

    def head(self) -> Position:
        """Where the log ends."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.head(connection)

    def since(self, seq: int, limit: int) -> list[Record]:
        """The records after `seq`, in order, at most `limit` of them."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.since(connection, self.path, seq, limit)

    def checked(self, seq: int, limit: int) -> tuple[Position, list[Record]]:
        """The position at `seq`, START where there is none, and up to `limit` records after it, each as it was written.

        Raises LogDamaged, too, where one of them, or the one at `seq`, does not give its hash or follow the one before.
        """
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            at = START
            found = records.since(connection, self.path, max(seq - 2, 0), min(seq, 2))
            if found and found[-1].seq == seq:
                before = found[-2].position if len(found) > 1 else START
                at = records.check_chain(found[-1:], before, self.path)
            after = records.since(connection, self.path, seq, limit)
            records.check_chain(after, at, self.path)
            return at, after

    def headlines(self, after: int, upto: int) -> list[Headline]:
        """Seq, term and kind of the records after `after`, up to `upto`, in order."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.headlines(connection, after, upto)

    def of_kinds(self, kinds: Sequence[str], seq: int, upto: int, limit: int) -> list[Record]:
        """The records of some kinds after `seq` and up to `upto`, in order, at most `limit` of them."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.of_kinds(connection, self.path, kinds, seq, upto, limit)

    def sought(self, wanted: Filter, before: int, limit: int) -> list[Record]:
        """The newest records below seq `before` that are looked for, newest first; at most `limit`."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.sought(connection, self.path, wanted, before, limit)

    def at(self, seq: int) -> Record | None:
        """The record at `seq`, None if there is none."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.at(connection, self.path, seq)

    def term_history(self) -> list[tuple[int, int, bytes]]:
        """(term, last seq, its hash) of every term that the log holds, oldest first."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return records.term_history(connection)

    def cuts(self) -> list[cut.Cut]:
        """Every tail that was ever cut off, oldest first."""
        with sqlite.sentences(self.path, "read the log"), self._readers.connect() as connection:
            return cut.noted(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
