"""What is found when a controller's files are looked after: whether its log is whole, and what a backup holds."""

from __future__ import annotations

import msgspec


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a log. seq: the first record that is wrong; 0 where it is the file as a whole."""

    file: str
    seq: int
    what: str


class LogCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A log that was walked from its first record to its last.

    records, term, hash: of its end, as far as it is intact; hash in hex. fault: None where it is intact.
    """

    intact: bool
    records: int
    term: int
    hash: str
    fault: Fault | None = None


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made. sha256: of the archive. seq: where its log ends. digest: of the rows of its state."""

    path: str
    size: int
    sha256: str
    seq: int
    digest: str
