"""Quarantine files: what was cut from a log, exactly as it was.

One record a line, as a JSON array in the order of Record's fields; bytes are base64. A file is named
`<term>-<first>-<last>-a<answered>.log` after its last record's term, its first and last seq, and how many of its
records were known to be committed here, so somebody was told that they are done; files of the first version lack the
last. Another tail of the same name gets its own digest behind. Records carry their hashes, so a file proves itself.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from middlewared.kernel.errors import LogDamaged, OutOfSpace, PortFailed
from middlewared.kernel.event import Position, Record, follows
from middlewared.kernel.tail import Page
from middlewared.store.sqlite import sync_directory

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


PAGE_BYTES = 384 * 1024
"""Of a page's records; on the line between the controllers base64 is no longer in it."""


def name_of(last: Position, first: int, answered: int) -> str:
    """A file's name, without its suffix."""
    return f"{last.term}-{first}-{last.seq}-a{answered}"


def answered_in(file: str) -> int | None:
    """What the name of a file says of how many of its records were answered; None where it says nothing."""
    found = re.fullmatch(r"\d+-\d+-\d+-a(\d+)(-[0-9a-f]{16})?\.log", file)
    return int(found[1]) if found else None


def line(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def write(directory: Path, name: str, records: Iterable[Record]) -> tuple[Path, str]:
    """Write `records` to a file in `directory`, durable under its name when this returns.

    Returns the file and its SHA-256, in hex. An equal file that is there already is left as it is; no other file is
    ever overwritten. Raises PortFailed.
    """
    unnamed = directory / f"{name}.partial"
    digest = hashlib.sha256()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with unnamed.open("wb") as file:
            for record in records:
                text = line(record)
                digest.update(text)
                file.write(text)
            file.flush()
            os.fsync(file.fileno())
        target = _free_name(directory, name, digest.hexdigest())
        unnamed.rename(target)
        sync_directory(directory)
        sync_directory(directory.parent)
    except OSError as e:
        kind = OutOfSpace if e.errno == errno.ENOSPC else PortFailed
        raise kind("set records aside", f"{e.filename or unnamed}: {e.strerror}") from None
    return target, digest.hexdigest()


def _free_name(directory: Path, name: str, digest: str) -> Path:
    plain = directory / f"{name}.log"
    if not plain.exists() or sha256(plain) == digest:
        return plain
    return directory / f"{name}-{digest[:16]}.log"


def sha256(path: Path) -> str:
    """The file's digest in hex, read back from it. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> Iterator[Record]:
    """The records of a quarantine file, each checked against the one before.

    Raises LogDamaged, naming the line's seq where it is known, and PortFailed when the file cannot be read.
    """
    before: Position | None = None
    try:
        with path.open("rb") as file:
            for text in file:
                record = _decoder.decode(text)
                before = before or Position(record.seq - 1, record.term, record.prev)
                why = follows(record, before)
                if why is not None:
                    raise LogDamaged(str(path), record.seq, why)
                before = record.position
                yield record
    except OSError as e:
        raise PortFailed("read records that were set aside", f"{path}: {e.strerror}") from None
    except msgspec.DecodeError as e:
        raise LogDamaged(str(path), before.seq + 1 if before else 0, f"a line is not a record: {e}") from None


def page(path: Path, offset: int, limit: int = PAGE_BYTES) -> Page:
    """The records of the lines from byte `offset` on, at least one, at most about `limit` bytes of them.

    The chain from one page to the next is for the reader to check. Raises LogDamaged, PortFailed.
    """
    records = []
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while file.tell() - offset < limit and (text := file.readline()):
                records.append(_decoder.decode(text))
            more = file.tell() < os.fstat(file.fileno()).st_size
            return Page(tuple(records), file.tell() if more else None)
    except OSError as e:
        raise PortFailed("read records that were set aside", f"{path}: {e.strerror}") from None
    except msgspec.DecodeError as e:
        seq = records[-1].seq + 1 if records else 0
        raise LogDamaged(str(path), seq, f"a line is not a record: {e}") from None


def remove(path: Path) -> None:
    """Delete a file that somebody decided to give up; durable when this returns. Raises PortFailed."""
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as e:
        raise PortFailed("give up records that were set aside", f"{path}: {e.strerror}") from None
