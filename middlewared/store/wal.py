"""Has the write-ahead log beside a database lost committed transactions?

SQLite recovers a -wal file up to the first frame whose checksum is wrong and ignores the rest without a word: after a
power loss that is the transaction that was being written, and right. A flipped byte in the middle looks the same to
it, and takes every later transaction away silently. With synchronous=FULL the two can be told apart: a transaction's
first frame is written only after all frames of the one before are durable. So a wrong frame is damage when the
transaction that holds it has its commit frame, and another transaction of the same generation begins after that.

Not told apart: a wrong frame in the very last transaction. state.db, which is applied after the log is durable,
gives that away (rebuild.contradiction).

    file   = header frame*
    header = magic version page_size checkpoint_seq salt1 salt2 cksum1 cksum2          32 bytes, big endian
    frame  = page_no db_size salt1 salt2 cksum1 cksum2  page                           db_size != 0: a commit
    cksum covers the header's first 24 bytes, then of every frame the first 8 bytes and the page, cumulatively;
    a frame whose salts are not the header's is of an older generation.

Source: sqlite.org/fileformat2.html#walformat, section 4.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682  # the lowest bit says in which byte order the checksums read their words
_MASK = 0xFFFFFFFF
_TRIES = 5


class _Frame(NamedTuple):
    page: int
    commit: bool
    current: bool
    """Its salts are the header's."""
    cksum: tuple[int, int]


def fault_in(path: Path) -> str | None:
    """What is wrong with the -wal file at `path`; None when nothing is, or when there is no such file.

    Safe while another process writes: an answer counts only if the file was not begun anew meanwhile.
    Raises OSError.
    """
    for _ in range(_TRIES):
        try:
            data = path.read_bytes()
            fault = _fault(data)
            with path.open("rb") as file:
                if file.read(_HEADER.size) == data[: _HEADER.size]:
                    return fault
        except FileNotFoundError:
            return None
    return None


def pages_in(path: Path) -> frozenset[int]:
    """The pages that SQLite reads from the -wal file at `path` and not from the database; no faults in it.

    What the database holds in their place may be half of a checkpoint that a power loss interrupted.
    Raises OSError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return frozenset()
    if len(data) < _HEADER.size + _FRAME.size:
        return frozenset()
    magic, _, page_size, _, salt1, salt2, *cksum = _HEADER.unpack_from(data)
    frames = _frames(data, page_size, (salt1, salt2))
    whole = frames[: _first_wrong(data, frames, page_size, ">" if magic & 1 else "<", (cksum[0], cksum[1]))]
    while whole and not whole[-1].commit:
        whole.pop()
    return frozenset(frame.page for frame in whole)


def _fault(data: bytes) -> str | None:
    if len(data) < _HEADER.size + _FRAME.size:
        return None  # no frame was ever written
    magic, _, page_size, _, salt1, salt2, *cksum = _HEADER.unpack_from(data)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or _checksum(data[:24], order, (0, 0)) != tuple(cksum):
        return "the header of the write-ahead log does not match its checksum: its transactions are lost"
    frames = _frames(data, page_size, (salt1, salt2))
    first_wrong = _first_wrong(data, frames, page_size, order, (cksum[0], cksum[1]))
    commit = next((i for i in range(first_wrong, len(frames)) if frames[i].current and frames[i].commit), None)
    if commit is None or not any(frame.current for frame in frames[commit + 1 :]):
        return None
    return f"frame {first_wrong + 1} of the write-ahead log is wrong, and committed transactions come after it"


def _frames(data: bytes, page_size: int, salts: tuple[int, int]) -> list[_Frame]:
    frames = []
    for offset in range(_HEADER.size, len(data) - _FRAME.size - page_size + 1, _FRAME.size + page_size):
        page, db_size, salt1, salt2, cksum1, cksum2 = _FRAME.unpack_from(data, offset)
        frames.append(_Frame(page, db_size != 0, (salt1, salt2) == salts, (cksum1, cksum2)))
    return frames


def _first_wrong(data: bytes, frames: list[_Frame], page_size: int, order: str, cksum: tuple[int, int]) -> int:
    offset = _HEADER.size
    for index, frame in enumerate(frames):
        page = offset + _FRAME.size
        cksum = _checksum(data[offset : offset + 8] + data[page : page + page_size], order, cksum)
        if not frame.current or frame.cksum != cksum:
            return index
        offset = page + page_size
    return len(frames)


def _checksum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum: two sums of 32 bits over pairs of words."""
    native = "<" if sys.byteorder == "little" else ">"
    words = memoryview(data).cast("I").tolist() if order == native else struct.unpack(f"{order}{len(data) // 4}I", data)
    s0, s1 = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + even + s1) & _MASK
        s1 = (s1 + odd + s0) & _MASK
    return s0, s1
