"""What a controller does to its files, as processes that end on their own and say what they have promised.

    python -m tests.crash.workloads NAME DIRECTORY MARK

Everything is written by the product. MARK is a file to which the words go: "acked 7" (seq 7 is durable, and was
answered), "cut", "paired". A workload begins in a directory that `prepare` made, so that only its own steps are
recorded.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network
from middlewared_plugins.network.configuration import NOUN, Update
from sqlalchemy import insert

from middlewared.engine.registry import Registry
from middlewared.kernel.event import START, Position, Record, Stamp, seal
from middlewared.plugin import Noun
from middlewared.shell.identity import Cluster, Keys, make_certificate
from middlewared.store import schema, snapshot, sqlite
from middlewared.store.aside import set_aside
from middlewared.store.audit import AuditStore
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.rebuild import open_state, rebuild
from middlewared.store.state import StateStore
from tests.crash.rebuild import Image, image_of

REGISTRY = Registry((network, failover))
NOUNS: list[Noun[Any]] = list(REGISTRY.nouns.values())
STAMP = Stamp(term=1, origin="A", actor="eva@here", request_id="r", wall_ns=1_700_000_000_000_000_000)
SMALL_CHECKPOINT = 8
"""Pages in the -wal file after which SQLite moves them into the database: so that a short run does it several times."""
PREPARED = 40
PIECE = 8192
KEPT = 25
METHOD = "network.configuration.update"
NAMED_FROM = PREPARED + 4
"""In the middle of a group, and after groups that still go into a log of the first schema."""
CLUSTER = Cluster(cluster_id="0123456789abcdef", key=bytes(range(32)))

Say = Callable[[str], None]


def chain(count: int, after: Position = START, term: int = 1, named_from: int | None = None) -> list[Record]:
    """The same records in every process: each changes the domain, and some are as long as several pages.

    named_from: the first seq whose record says which method asked for it.
    """
    state, records = NOUN.initial, list[Record]()
    for seq in range(after.seq + 1, after.seq + count + 1):
        method = METHOD if named_from is not None and seq >= named_from else ""
        stamp = msgspec.structs.replace(STAMP, term=term, method=method)
        hosts = tuple(f"10.0.{seq}.{n} host-{n}" for n in range(250)) if seq % 7 == 3 else ()
        for event in NOUN.decide(state, Update(domain=f"d{seq}.example", hosts=hosts))[:1]:
            record = seal(event, after, stamp)
            state, after = NOUN.evolve(state, event), record.position
            records.append(record)
    return records


def groups(records: list[Record]) -> Iterator[list[Record]]:
    """Of one record, and of several."""
    sizes = (1, 1, 3, 1, 6, 2)
    turn = 0
    while records:
        size = sizes[turn % len(sizes)]
        turn += 1
        yield records[:size]
        records = records[size:]


def tell(store: LogStore | StateStore, pragma: str) -> None:
    """Change a setting of the connection that writes."""
    with ExitStack() as stack:
        writer = store._writer if isinstance(store, LogStore) else stack.enter_context(store._engine.connect())
        driver = writer.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"PRAGMA {pragma}")


def checkpoint_soon(store: LogStore | StateStore) -> None:
    tell(store, f"wal_autocheckpoint = {SMALL_CHECKPOINT}")


def states_after(records: list[Record]) -> dict[str, Any]:
    states = {noun.name: noun.initial for noun in NOUNS}
    for record in records:
        name = REGISTRY.noun_of[record.kind]
        states[name] = REGISTRY.nouns[name].evolve(states[name], REGISTRY.catalogue.open(record))
    return states


def fold(state: StateStore, records: list[Record]) -> None:
    """Bring the projections to the end of `records`, which begin with the log's first."""
    states = states_after(records)
    state.apply({noun: states[noun.name] for noun in NOUNS}, records[-1].position, records[-1].seq)


def opened(data: Path) -> tuple[LogStore, StateStore]:
    """As the daemon opens them."""
    log = LogStore.open(data / "log.db")
    return log, open_state(data / "state.db", log, REGISTRY.catalogue, NOUNS).store


def commit(data: Path, say: Say) -> None:
    """A new log, groups of one and of several, projections a step behind, checkpoints, an orderly end."""
    records = chain(PREPARED)
    with DataDirectory(data):
        log, state = opened(data)
        for group in groups(records):
            checkpoint_soon(log)
            checkpoint_soon(state)
            head = log.append(group)
            say(f"acked {head.seq}")
            fold(state, records[: head.seq])
        state.close()
        log.close()


def goes_on(data: Path, say: Say) -> None:
    """A log whose process was killed, opened and written on; then killed."""
    records = chain(PREPARED + 12)
    with DataDirectory(data):
        log, state = opened(data)
        say(f"acked {log.head().seq}")
        for group in groups(records[PREPARED:]):
            say(f"acked {log.append(group).seq}")
        fold(state, records)
        os._exit(0)


def cut(data: Path, say: Say) -> None:
    """A tail that the other controller does not share goes to quarantine; the projections had it already."""
    kept = chain(KEPT)
    with DataDirectory(data):
        log, state = opened(data)
        say(f"acked {KEPT}")
        checkpoint_soon(log)
        log.cut(kept[-1].position, data / "quarantine", pair_seq=KEPT)
        say("cut")
        state.close()
        rebuild(log, data / "state.db", REGISTRY.catalogue, NOUNS, KEPT)
        state = StateStore.open(data / "state.db", NOUNS)
        for record in chain(5, kept[-1].position, term=2):
            say(f"acked {log.append([record]).seq}")
        state.close()
        log.close()


def rebuilt(data: Path, say: Say) -> None:
    """state.db made again, and put in the place of one that a killed process left with its -wal file."""
    with DataDirectory(data):
        log = LogStore.open(data / "log.db")
        say(f"acked {log.head().seq}")
        rebuild(log, data / "state.db", REGISTRY.catalogue, NOUNS)
        say("rebuilt")
        log.close()


def installed(data: Path, say: Say) -> None:
    """A snapshot of the state, sent in pieces, folded on beside the old state.db, and put in its place."""
    path, copy, partial = (data / name for name in ("state.db", snapshot.COPY, snapshot.PARTIAL))
    with DataDirectory(data):
        log, state = opened(data)
        say(f"acked {log.head().seq}")
        manifest = snapshot.take(path, copy, "s", 1, NOUNS)
        for at in range(0, manifest.size, PIECE):
            snapshot.keep(partial, at, snapshot.read(copy, at, PIECE))
        assert snapshot.why_refused(partial, manifest, state.shape, log.head()) is None
        say(f"acked {log.append(chain(PREPARED + 1)[PREPARED:]).seq}")
        new = snapshot.Beside(log, path, REGISTRY.catalogue, NOUNS, partial)
        new.to(PREPARED + 1)
        new.finish(PREPARED)
        state.close()
        state = new.swap()
        say("installed")
        snapshot.clear(path)
        state.close()
        log.close()


def aside(data: Path, say: Say) -> None:
    """A log set aside whole, and a new one begun in its place, as when a controller joins another."""
    with DataDirectory(data):
        log, state = opened(data)
        say(f"acked {log.head().seq}")
        state.close()
        log.close()
        set_aside(data)
        say("aside")
        log, state = opened(data)
        state.close()
        log.close()


def migrated(data: Path, say: Say) -> None:
    """The files of an older build: state.db is migrated as it is opened, log.db at the first record with a method."""
    records = chain(PREPARED + 12, named_from=NAMED_FROM)
    with DataDirectory(data):
        log, state = opened(data)
        AuditStore.open(data / "audit.db").close()
        say(f"acked {log.head().seq}")
        checkpoint_soon(log)
        checkpoint_soon(state)
        for group in groups(records[PREPARED:]):
            head = log.append(group)
            say(f"acked {head.seq}")
            fold(state, records[: head.seq])
        state.close()
        log.close()


def keys(data: Path, say: Say) -> None:
    """A controller's first start, and its pairing."""
    with DataDirectory(data):
        mine = Keys(data, "A")
        say("made")
        _, certificate = make_certificate("middlewared B")
        mine.pair(CLUSTER, certificate.decode())
        say("paired")


def careless(data: Path, say: Say) -> None:
    """A log that answers before the disk has what it answers for: the enumeration must not let it pass."""
    with DataDirectory(data):
        log, _ = opened(data)
        tell(log, "synchronous = NORMAL")
        for group in groups(chain(PREPARED + 12)[PREPARED:]):
            say(f"acked {log.append(group).seq}")
        os._exit(0)


WORKLOADS = {work.__name__: work for work in (commit, goes_on, cut, rebuilt, installed, aside, migrated, keys)}


@cache
def killed() -> Image:
    """What a process leaves that was killed with PREPARED records written: -wal files, and no word of parting."""
    records = chain(PREPARED)
    with TemporaryDirectory() as directory, DataDirectory(Path(directory)):
        log, state = opened(Path(directory))
        for group in groups(records):
            log.append(group)
        fold(state, records)
        left = image_of(Path(directory))
        state.close()
        log.close()
    return left


@cache
def older() -> Image:
    """What the first build leaves that was killed with PREPARED records written: both files in their first schema."""
    records = chain(PREPARED)
    with TemporaryDirectory() as directory:
        data = Path(directory)
        log = LogStore.open(data / "log.db")
        for group in groups(records):
            log.append(group)
        state = sqlite.writer(data / "state.db", "NORMAL")
        with state.begin() as connection:
            schema.migrate(connection, "state", "0001")
            states = states_after(records)
            for noun in NOUNS:
                if rows := noun.project(states[noun.name]):
                    connection.execute(insert(noun.table), [dict(row) for row in rows])
            seq, term, hash_ = records[-1].position
            connection.exec_driver_sql("INSERT INTO applied VALUES (1, ?, ?, ?, ?)", (seq, term, hash_, seq))
        left = image_of(data)
        state.dispose()
        log.close()
    return left


def base_of(name: str) -> Image:
    """What the workload begins with."""
    if name in ("commit", "keys"):
        return Image({})
    return older() if name == "migrated" else killed()


def prepare(name: str, data: Path) -> None:
    data.mkdir(parents=True)
    base_of(name).write(data)


def main() -> None:
    name, directory, mark = sys.argv[1:]
    with Path(mark).open("ab", buffering=0) as file:

        def say(words: str) -> None:
            file.write(f"{words}\n".encode())

        {**WORKLOADS, "careless": careless}[name](Path(directory), say)


if __name__ == "__main__":
    main()
