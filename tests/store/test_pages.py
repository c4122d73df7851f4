"""A log that only grew leaves no byte in the unused part of a page; one that is put there is found."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from middlewared.kernel.event import START, Event, Record, Stamp, seal
from middlewared.store.log import LogStore
from middlewared.store.pages import stray_byte

Chain = Callable[..., list[Record]]


class Blob(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "test.blob"
    text: str


def roots(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        return {root for (root,) in connection.execute("SELECT rootpage FROM sqlite_master")}


@pytest.mark.parametrize("seed", range(3))
def test_a_log_that_only_grew_has_none(path: Path, seed: int) -> None:
    """Records of all sizes, in groups of all sizes, many terms, reopened now and then."""
    chosen = random.Random(seed)
    log, at, written = LogStore.open(path), START, 0
    while written < 600_000:
        group = []
        for _ in range(chosen.choice([1, 3, 64])):
            size = int(chosen.random() ** 4 * 12_000)
            term = at.term + (chosen.random() < 0.3)
            stamp = Stamp(term=term, origin="A", actor="x" * chosen.randrange(9), request_id="r", wall_ns=0)
            group.append(seal(Blob(text="x" * size), at, stamp))
            at = group[-1].position
            written += size + 250
        log.append(group)
        if chosen.random() < 0.05:
            log.close()
            log = LogStore.open(path)
    log.close()
    assert stray_byte(path, roots(path)) is None


def test_a_byte_in_an_empty_page_is_found_with_the_number_of_the_page(path: Path, chain: Chain) -> None:
    with closing(LogStore.open(path)) as log:
        log.append(chain(10))
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'cut'").fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 + 2000] = 1
    path.write_bytes(data)
    assert stray_byte(path, roots(path)) == f"the unused part of page {page} is not zero"


def test_a_byte_in_the_reserved_part_of_the_header_is_found(path: Path) -> None:
    LogStore.open(path).close()
    data = bytearray(path.read_bytes())
    data[80] = 1
    path.write_bytes(data)
    assert stray_byte(path, roots(path)) == "the header's reserved bytes are not zero"
