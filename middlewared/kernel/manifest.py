"""What a snapshot of the state says of itself."""

from __future__ import annotations

import msgspec


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is.

    seq, term, hash: the record up to which the log is folded into it. shape: of its tables; digest: of its rows.
    size, sha256: of the file.
    """

    id: str
    seq: int
    term: int
    hash: bytes
    log_format: int
    shape: str
    digest: str
    size: int
    sha256: str
