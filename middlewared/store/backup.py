"""A backup of the configuration: log.db and state.db as they were at one instant each, in one archive with a manifest.

Both copies are made by SQLite's backup API within one read transaction each, in small steps: in WAL mode a reader holds
no writer up. state.db is copied first, so the log of the archive always holds what its state has applied. The copies
are opened as the daemon would open them before the archive gets its name, so one that could not be restored is not
made.

The archive is a plain tar: half of the log's bytes are hashes, which no compression makes smaller, and who restores in
haste needs no more than tar(1). It has mode 0600, is synced, and then renamed into `backup/`; the newest KEPT stay.

Deliberately not in it: the keys of the pair and of secrets, and the notes of the audit. A backup gives back a
configuration, not an identity.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.upkeep import Saved
from middlewared.plugin import Noun
from middlewared.store import sqlite
from middlewared.store.reader import LogReader
from middlewared.store.rebuild import contradiction
from middlewared.store.room import free_bytes
from middlewared.store.state import StateStore

KEPT = 10

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)"""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Whose configuration it is. version: of the product. cluster: "" where it was never paired."""

    version: str
    cluster: str
    node: str


class File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class StateAt(msgspec.Struct, frozen=True, kw_only=True):
    """How far the state of the archive is, and the digest of its rows."""

    seq: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json. seq, term, hash: where the log of the archive ends; saved_at: ISO 8601, UTC."""

    version: str
    cluster: str
    node: str
    saved_at: str
    seq: int
    term: int
    hash: str
    log_format: int
    state: StateAt
    files: dict[str, File]


def save(
    data: Path,
    about: About,
    nouns: Iterable[Noun[Any]],
    format_of: Callable[[dict[str, Any]], int],
    floor: int,
    progress: Progress,
) -> Saved:
    """Save the configuration in the data directory `data` to its directory `backup`.

    format_of: the states -> the format in which the log goes on.
    floor: bytes of free space that must be left. Raises PortFailed when it cannot be written, LogDamaged when what was
    copied could not be restored.
    """
    into = data / "backup"
    making = into / ".making"
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _alone(into)
    except OSError as e:
        raise PortFailed("save the configuration", f"{e.filename or into}: {e.strerror or e}") from None
    try:
        shutil.rmtree(making, ignore_errors=True)  # Left by one that was killed.
        making.mkdir(mode=0o700)
        half = _room_for(data, floor)
        manifest = _copy(data, making, about, list(nouns), format_of, lambda done: progress(min(done, half), 2 * half))
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = into / f"config-{stamp}-seq{manifest.seq}.tar"
        copied = sum(file.size for file in manifest.files.values())
        sha256 = _archive(making, manifest, lambda done: progress(half + half * done // copied, 2 * half))
        (making / "archive").rename(path)
        sqlite.sync_directory(into)
        _forget_old(into)
        size = path.stat().st_size
    except OSError as e:
        raise PortFailed("save the configuration", f"{e.filename or into}: {e.strerror or e}") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
        os.close(lock)
    return Saved(path=str(path), size=size, sha256=sha256, seq=manifest.seq, digest=manifest.state.digest)


def _alone(into: Path) -> int:
    """The lock on the directory, until it is closed. Raises PortFailed where another process has it, OSError."""
    lock = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PortFailed("save the configuration", "another backup is being made") from None
    return lock


def _room_for(data: Path, floor: int) -> int:
    """About how large the copies will be. Raises PortFailed where they and the archive of them would not fit."""
    size = sum((data / name).stat().st_size for name in ("log.db", "log.db-wal", "state.db") if (data / name).exists())
    if free_bytes(data) < 2 * size + floor:
        raise PortFailed("save the configuration", f"{data} has less than {2 * size + floor} bytes of free space")
    return max(1, size)


def _copy(
    data: Path,
    into: Path,
    about: About,
    nouns: list[Noun[Any]],
    format_of: Callable[[dict[str, Any]], int],
    progress: Callable[[int], None],
) -> Manifest:
    copied = 0
    for name, first in (("state.db", "SELECT seq FROM applied"), ("log.db", "SELECT max(seq) FROM event")):
        with sqlite.sentences(data / name, "save the configuration"):
            sqlite.copy(data / name, into / name, first, lambda done, before=copied: progress(before + done))  # type: ignore[misc]
        copied += (into / name).stat().st_size
    with LogReader(into / "log.db", untouched=True) as log:
        head = log.head()
        with closing(StateStore.open(into / "state.db", nouns)) as state:
            why = contradiction(state.applied().position, log)
            if why is not None:
                raise PortFailed("save the configuration", f"{why}; try again")
            at = StateAt(seq=state.applied().position.seq, digest=state.digest)
            log_format = format_of(state.load(nouns))
    return Manifest(
        version=about.version,
        cluster=about.cluster,
        node=about.node,
        saved_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seq=head.seq,
        term=head.term,
        hash=head.hash.hex(),
        log_format=log_format,
        state=at,
        files={name: _file(into / name) for name in ("log.db", "state.db")},
    )


def _file(path: Path) -> File:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return File(file.tell(), sha256)


def _archive(making: Path, manifest: Manifest, progress: Callable[[int], None]) -> str:
    """Write the archive beside the copies, synced. Returns its SHA-256 in hex."""
    path = making / "archive"
    done = 0

    class Counted(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal done
            piece = super().read(-1 if size is None else size) or b""
            done += len(piece)
            progress(done)
            return piece

    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:  # noqa: PTH123
        with tarfile.open(fileobj=file, mode="w") as tar:
            text = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
            tar.addfile(_member("manifest.json", len(text)), io.BytesIO(text))
            for name, wanted in manifest.files.items():
                with Counted(making / name) as content:
                    tar.addfile(_member(name, wanted.size), content)
        _sync(file)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _forget_old(into: Path) -> None:
    """The names begin with the time, so the last by name are the newest."""
    for path in sorted(into.glob("config-*.tar"))[:-KEPT]:
        path.unlink()
