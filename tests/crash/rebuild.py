"""The data directory as a crash would have left it, at every point of a recorded run.

The model
---------
record.c noted every call below the directory, in order. A crash may fall after any of them. What is then on the disk:

* **kept**: everything. The process died (SIGKILL, the OOM killer); the kernel lives and writes its pages out.
* **dropped**: of each file what was there at its last fsync or fdatasync; names are as they were.
* **lost**: as dropped, and new names, renames and deletions count only where their directory was synced after them.
* **torn**: everything, but the very last unsynced write ends at a boundary of 512 bytes within it.
* **some**: each sector of 512 bytes of each unsynced write is there or not, by a seeded draw, in any order; of each
  file's unsynced truncations likewise. Of the names a seeded prefix of what was not synced is there.

A sync that failed made nothing durable, and nothing that waited for it becomes durable by a later one: the kernel has
marked those pages clean (Rebello et al., ATC 2020). Where pages are dropped, these are.

Limits, each on purpose: a sector is written whole or not at all; a device that says "written" has written; operations
on the names of one directory reach the disk in their order (a journalled file system); a truncation or an allocation
takes effect whole. sync_file_range and time count for nothing. -shm files do not exist after a crash.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR = 512
MODES = ("kept", "dropped", "lost", "torn", "some")

_HEAD = struct.Struct("<c3xiQqII")


class Note(NamedTuple):
    """One call. error: its errno, 0 when it succeeded. path: absolute. data: written bytes, or a rename's new path."""

    what: str
    error: int
    inode: int
    offset: int
    path: str
    data: bytes


class Incomplete(Exception):
    """The run did something that the notes cannot show."""


def notes(trace: Path) -> Iterator[Note]:
    """What record.c noted, oldest first. Raises Incomplete."""
    with trace.open("rb") as file:
        while head := file.read(_HEAD.size):
            what, error, inode, offset, path_size, data_size = _HEAD.unpack(head)
            note = Note(what.decode(), error, inode, offset, file.read(path_size).decode(), file.read(data_size))
            if note.what == "!":
                raise Incomplete(f"{note.data.decode()} of {note.path}")
            yield note


class _Change(NamedTuple):
    """An unsynced change of a file's content: bytes at an offset, or a new size."""

    offset: int
    data: bytes
    kind: str

    def on(self, content: bytearray) -> None:
        if self.kind == "T":
            del content[self.offset :]
        size = self.offset if self.kind in "TA" else self.offset + len(self.data)
        content.extend(bytes(max(0, size - len(content))))
        if self.kind == "W":
            content[self.offset : size] = self.data

    def cut(self, end: int) -> _Change:
        return _Change(self.offset, self.data[: end - self.offset], "W")

    def boundaries(self) -> range:
        """Where a boundary of sectors lies within the bytes."""
        return range((self.offset // SECTOR + 1) * SECTOR, self.offset + len(self.data), SECTOR)

    def sectors(self) -> Iterator[_Change]:
        ends = [*self.boundaries(), self.offset + len(self.data)]
        start = self.offset
        for end in ends:
            yield _Change(start, self.data[start - self.offset : end - self.offset], "W")
            start = end


class _File:
    """durable: what a sync has promised. changes: since then, in order.."""

    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.current = bytearray(content)
        self.changes: list[_Change] = []

    def change(self, change: _Change) -> None:
        change.on(self.current)
        self.changes.append(change)

    def synced(self) -> None:
        for change in self.changes:
            change.on(self.durable)
        self.changes.clear()

    def sync_failed(self) -> None:
        self.changes.clear()

    def torn(self, end: int) -> bytes:
        content = bytearray(self.durable)
        for change in self.changes[:-1]:
            change.on(content)
        self.changes[-1].cut(end).on(content)
        return bytes(content)

    def some(self, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for change in self.changes:
            for part in change.sectors() if change.kind == "W" else (change,):
                if chance.random() < 0.5:
                    part.on(content)
        return bytes(content)


Names = dict[str, _File | None]
"""Path below the directory -> file, or None for a directory."""


class _Rename(NamedTuple):
    """An unsynced change of names. old None: a new name; new None: a deletion."""

    old: str | None
    new: str | None
    file: _File | None

    @property
    def directories(self) -> set[str]:
        return {str(PurePosixPath(name).parent) for name in (self.old, self.new) if name is not None}

    def on(self, names: Names) -> None:
        if self.old is not None:
            for name in [n for n in names if n == self.old or n.startswith(self.old + "/")]:
                file = names.pop(name)
                if self.new is not None:
                    names[self.new + name.removeprefix(self.old)] = file
        elif self.new is not None:
            names[self.new] = self.file


class Image(NamedTuple):
    """What lies in the directory: path below it -> content, None for a directory. digest: of all of it."""

    entries: dict[str, bytes | None]

    @property
    def digest(self) -> bytes:
        total = hashlib.sha256()
        for name, content in sorted(self.entries.items()):
            total.update(f"{name}\0{-1 if content is None else len(content)}\0".encode())
            total.update(content or b"")
        return total.digest()

    def write(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for name, content in sorted(self.entries.items()):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content)


def image_of(directory: Path) -> Image:
    """What really lies there, but for what no crash leaves."""
    entries: dict[str, bytes | None] = {}
    for path in sorted(directory.rglob("*")):
        if not path.name.endswith("-shm"):
            entries[str(path.relative_to(directory))] = path.read_bytes() if path.is_file() else None
    return Image(entries)


class Disk:
    """The directory while a run is replayed onto it. Begins as `base`, all of it durable; root: its path in the run."""

    def __init__(self, base: Image, root: str) -> None:
        self._root = root
        self._names: Names = {
            name: None if content is None else _File(content) for name, content in base.entries.items()
        }
        self._durable_names: Names = dict(self._names)
        self._renames: list[_Rename] = []
        self._by_inode: dict[int, _File] = {}
        self._last: _File | None = None

    def take(self, note: Note) -> None:
        """Let one call happen."""
        name = self._name(note.path)
        match note.what:
            case "C":
                file = self._by_inode[note.inode] = _File()
                self._rename(_Rename(None, name, file))
            case "D" if name != ".":
                self._rename(_Rename(None, name, None))
            case "R":
                self._rename(_Rename(name, self._name(note.data.decode()), None))
            case "L":
                self._rename(_Rename(None, self._name(note.data.decode()), self._names[name]))
            case "U" | "X":
                self._rename(_Rename(name, None, None))
            case "S":
                self._sync(note, name)
            case "W" | "T" | "A" if note.error == 0:
                if (found := self._file(note, name)) is not None:
                    found.change(_Change(note.offset, note.data, note.what))
                    self._last = found

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).removeprefix("/") or "."

    def _file(self, note: Note, name: str) -> _File | None:
        """By its inode, since a file may have lost its name; by its name when it was there before the run."""
        file = self._by_inode.get(note.inode) or self._names.get(name)
        if file is not None:
            self._by_inode[note.inode] = file
        return file

    def _rename(self, change: _Rename) -> None:
        change.on(self._names)
        self._renames.append(change)

    def _sync(self, note: Note, name: str) -> None:
        if name == "." or (name in self._names and self._names[name] is None):
            if note.error == 0:
                self._sync_names(name)
            return
        file = self._file(note, name)
        if file is None:
            return
        if note.error == 0:
            file.synced()
        else:
            file.sync_failed()

    def _sync_names(self, directory: str) -> None:
        waiting = []
        for change in self._renames:
            if directory in change.directories:
                change.on(self._durable_names)
            else:
                waiting.append(change)
        self._renames = waiting

    # --- what a crash leaves ---

    def image(self, mode: str, chance: random.Random) -> Image | None:
        """The directory after a crash now; None where that mode leaves nothing of its own."""
        match mode:
            case "kept":
                return self._image(self._names, lambda file: bytes(file.current))
            case "dropped":
                return self._image(self._names, lambda file: bytes(file.durable))
            case "lost":
                return self._image(self._durable_names, lambda file: bytes(file.durable)) if self._renames else None
            case "torn":
                return self._torn(chance)
            case _:
                return self._some(chance)

    def _torn(self, chance: random.Random) -> Image | None:
        torn = self._last
        if torn is None or not torn.changes or not (ends := torn.changes[-1].boundaries()):
            return None
        end = chance.choice(ends)
        return self._image(self._names, lambda file: file.torn(end) if file is torn else bytes(file.current))

    def _some(self, chance: random.Random) -> Image | None:
        names = dict(self._durable_names)
        for change in self._renames[: chance.randint(0, len(self._renames))]:
            change.on(names)
        if not self._renames and not any(file and file.changes for file in names.values()):
            return None
        return self._image(names, lambda file: file.some(chance))

    def _image(self, names: Names, content: Callable[[_File], bytes]) -> Image:
        entries = {}
        for name, file in names.items():
            # What lies in a directory whose own name is lost cannot be found.
            if all(str(above) == "." or str(above) in names for above in PurePosixPath(name).parents):
                entries[name] = None if file is None else content(file)
        return Image(entries)


class Crash(NamedTuple):
    """After `calls` noted calls, in `mode`. said: the words of the workload. after: the last call."""

    calls: int
    mode: str
    image: Image
    said: tuple[str, ...]
    after: str

    def __str__(self) -> str:
        return f"{self.mode} after call {self.calls} ({self.after})"


def crashes(base: Image, root: str, trace: Path, *, seed: int = 0, draws: int = 1, every: int = 1) -> Iterator[Crash]:
    """Every point at which the run may have been cut off, in every mode.

    draws: how many times mode "some" is drawn. every: only each so many-th point is made, the seed says which.
    """
    disk = Disk(base, root)
    said: tuple[str, ...] = ()
    point = seed
    for calls, note in enumerate(notes(trace), 1):
        if note.what == "M":
            said = (*said, *note.data.decode().splitlines())
        else:
            disk.take(note)
        after = f"{note.what} {PurePosixPath(note.path).name} at {note.offset}, {len(note.data)} bytes"
        for mode in MODES:
            for draw in range(draws if mode == "some" else 1):
                point += 1
                if point % every:
                    continue
                image = disk.image(mode, random.Random(f"{seed}-{calls}-{mode}-{draw}"))
                if image is not None:
                    yield Crash(calls, mode, image, said, after)
