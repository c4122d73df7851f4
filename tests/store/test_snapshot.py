"""A snapshot shows one point of the log, holds no writer up, and takes its place whole or not at all."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.event import Catalogue, Record
from middlewared.kernel.manifest import Manifest
from middlewared.plugin import Noun
from middlewared.store import sqlite
from middlewared.store.log import LogStore
from middlewared.store.rebuild import rebuild
from middlewared.store.snapshot import Beside, clear, forget_old, keep, read, take, why_refused
from middlewared.store.state import StateStore

Chain = Callable[..., list[Record]]


class World:
    """A log of ten records, a state.db that shows the first eight, and its snapshot."""

    def __init__(self, directory: Path, noun: Noun[Any], catalogue: Catalogue, records: list[Record]) -> None:
        self.noun, self.catalogue, self.records = noun, catalogue, records
        self.log = LogStore.open(directory / "log.db")
        self.log.append(records)
        self.path = directory / "state.db"
        rebuild(self.log, self.path, catalogue, [noun], upto=8)
        self.copy = directory / "snapshot.db"

    def take(self) -> Manifest:
        return take(self.path, self.copy, "id", 2, [self.noun])

    def beside(self, copy: Path | None = None) -> Beside:
        return Beside(self.log, self.path, self.catalogue, [self.noun], copy)

    def open(self) -> StateStore:
        return StateStore.open(self.path, [self.noun])

    def files(self) -> set[str]:
        return {file.name for file in self.path.parent.iterdir() if not file.name.startswith("log.db")}


@pytest.fixture
def world(path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain) -> Iterator[World]:
    made = World(path.parent, shelf, catalogue, chain(10))
    yield made
    made.log.close()


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def test_a_manifest_says_what_the_copy_shows(world: World) -> None:
    made = world.take()
    store = StateStore.open(world.copy, [world.noun])
    assert (made.seq, made.term, made.hash) == store.applied().position == world.records[7].position
    assert (made.digest, made.shape) == (store.digest, store.shape)
    store.close()
    assert world.files() == {"state.db", "snapshot.db"}


def test_a_state_whose_rows_something_else_changed_is_not_handed_on(world: World) -> None:
    change(world.path, "UPDATE shelf_jar SET count = 99")
    with pytest.raises(LogDamaged, match="its rows give the digest"):
        world.take()


def test_writers_are_not_held_up_and_the_copy_shows_one_point(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is made to take long; who writes meanwhile writes as ever, and is not in it."""
    store = world.open()
    wide = world.noun.initial
    wide = type(wide)(jars={f"jar-{n}": tuple(range(50)) for n in range(3000)})
    store.apply({world.noun: wide}, world.records[8].position, 0)
    monkeypatch.setattr(sqlite, "COPY_PAGES", 4)
    monkeypatch.setattr(sqlite, "COPY_PAUSE_S", 0.005)
    made: list[Manifest] = []
    thread = threading.Thread(target=lambda: made.append(world.take()))
    thread.start()
    slowest, writes = 0.0, 0
    while thread.is_alive():
        began = time.monotonic()
        wide = type(wide)(jars=wide.jars | {"jar-0": (writes,)})
        store.apply({world.noun: wide}, world.records[9].position, 0)
        slowest = max(slowest, time.monotonic() - began)
        writes += 1
    thread.join()
    store.close()
    assert writes > 5
    assert slowest < 1.0
    assert made[0].seq in (9, 10)


def test_pieces_put_together_are_the_file(world: World, tmp_path: Path) -> None:
    made = world.take()
    partial = tmp_path / "in" / "snapshot.partial"
    for offset in range(0, made.size, 1000):
        keep(partial, offset, read(world.copy, offset, 1000))
    assert why_refused(partial, made, made.shape, world.records[7].position) is None
    assert partial.read_bytes() == world.copy.read_bytes()


@pytest.mark.parametrize(
    ("shape", "record", "flip", "why"),
    [
        ("another", 7, False, "it is of a build with other tables"),
        (None, 6, False, "this log does not hold its record 8"),
        (None, None, False, "this log does not hold its record 8"),
        (None, 7, True, "its bytes are not those that were sent"),
    ],
)
def test_what_does_not_belong_here_is_refused(
    world: World, shape: str | None, record: int | None, flip: bool, why: str
) -> None:
    made = world.take()
    if flip:
        data = bytearray(world.copy.read_bytes())
        data[-1] ^= 1
        world.copy.write_bytes(data)
    mine = world.records[record].position if record is not None else None
    assert why_refused(world.copy, made, shape or made.shape, mine) == why


def test_a_copy_with_other_rows_than_it_says_is_not_opened(world: World) -> None:
    world.take()
    change(world.copy, "UPDATE shelf_jar SET count = 99")
    with pytest.raises(LogDamaged, match="its rows give the digest"):
        world.beside(world.copy)


def test_a_state_made_from_the_log_or_from_a_snapshot_on_is_the_same(world: World) -> None:
    world.take()
    from_copy, from_log = world.beside(world.copy), None
    assert from_copy.at == world.records[7].position
    digest = from_copy.to(10)
    from_copy.drop()
    from_log = world.beside()
    assert from_log.to(10) == digest
    from_log.finish(9)
    store = from_log.swap()
    assert store.applied() == (world.records[9].position, 9)
    assert store.digest == digest
    assert world.files() >= {"state.db", "state.db.old"}
    store.close()
    forget_old(world.path)
    assert world.files() == {"state.db"}


def test_one_that_cannot_be_opened_in_its_place_leaves_the_old_one(world: World) -> None:
    beside = world.beside()
    beside.to(10)
    beside.finish(0)
    change(world.path.with_name("state.db.beside"), "UPDATE shelf_jar SET count = 99")
    with pytest.raises(LogDamaged):
        beside.swap()
    store = world.open()
    assert store.applied().position == world.records[7].position
    store.close()


def test_one_that_is_not_whole_in_its_file_does_not_take_the_place(world: World) -> None:
    beside = world.beside()
    beside.to(10)
    with closing(sqlite3.connect(world.path.with_name("state.db.beside"))) as reader:
        reader.execute("SELECT * FROM applied").fetchone()  # while it has the file open, the -wal file stays
        with pytest.raises(PortFailed, match="could not be written to it"):
            beside.finish(0)


def test_a_snapshot_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match=r"nothing\.db: No such file"):
        world.beside(tmp_path / "nothing.db")


def test_what_a_killed_process_left_beside_is_removed(world: World) -> None:
    world.take()
    keep(world.path.with_name("snapshot.partial"), 0, b"x")
    world.beside()
    world.path.with_name("state.db.old").hardlink_to(world.path)
    clear(world.path)
    assert world.files() == {"state.db"}
    world.open().close()


def test_a_piece_that_cannot_be_kept_or_read_names_the_file(world: World, tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match=r"nothing\.db: No such file"):
        read(tmp_path / "nothing.db", 0, 1)
    with pytest.raises(PortFailed, match="Is a directory"):
        keep(tmp_path, 0, b"x")
