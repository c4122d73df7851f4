"""The digest of the projected state: one number that two controllers compare, kept up row by row.

Theory
------
Every row is hashed by itself, under its table's name, to a number of 256 bits. The digest of the state is the sum of
these numbers modulo 2^256. So it depends on neither the order of rows nor the way by which they came to be, and a row
that changes costs two hashes, however many rows there are: take the old one off, add the new one.

Why a sum and not an exclusive or: with XOR a row that stands twice vanishes, and anybody can find other rows of the
same digest by solving 256 linear equations. Addition is AdHash of Bellare and Micciancio, "A New Paradigm for
Collision-free Hashing: Incrementality at Reduced Cost", EUROCRYPT 1997. Against somebody who may choose very many rows
it is weaker than SHA-256 (Wagner, "A Generalized Birthday Problem", CRYPTO 2002); what it must find are faults: a fold
that is not deterministic, a bit that flipped, a hand in the file. What proves the history is the log's hash chain.

Digests are compared only between builds of one shape: the same tables with the same columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

CHECKPOINT_EVENTS = 256
"""Both controllers know their digest at every seq that is a multiple of this."""

_MODULUS = 1 << 256
_MAGIC = b"mw-row1"
_encode = msgspec.json.Encoder(order="sorted").encode


def row_bytes(columns: Sequence[str], row: Mapping[str, object]) -> bytes:
    """The canonical bytes of a row: a JSON array in the order of `columns`, which must be sorted."""
    return _encode([row[name] for name in columns])


def row_digest(table: str, row: bytes) -> int:
    """The number that a row counts for."""
    return int.from_bytes(hashlib.sha256(b"\0".join((_MAGIC, table.encode(), row))).digest())


def add(total: int, number: int) -> int:
    return (total + number) % _MODULUS


def take_off(total: int, number: int) -> int:
    return (total - number) % _MODULUS


def as_hex(total: int) -> str:
    return f"{total:064x}"


def shape(tables: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Names the tables, given as (name, [(column, its type)]): equal where digests may be compared."""
    lines = sorted(_encode([name, sorted(columns)]) for name, columns in tables)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]
