"""Child processes on real files."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.event import START, Event, Record, Stamp, seal
from middlewared.shell import child
from middlewared.shell.upkeep import Upkeep
from middlewared.store.log import LogStore
from tests.shell.loopback import until

WITHIN_S = 30.0


class Noted(Event, frozen=True, kw_only=True):
    kind = "test.noted"
    text: str


def notes(count: int) -> list[Record]:
    records: list[Record] = []
    for n in range(count):
        stamp = Stamp(term=1, origin="A", actor="", request_id="", wall_ns=0)
        records.append(seal(Noted(text=f"note {n}"), records[-1].position if records else START, stamp))
    return records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(LogStore.open(tmp_path / "log.db")) as log:
        log.append(notes(5000))
    return tmp_path


async def test_a_log_is_walked_by_a_child_that_says_how_far_it_is(data: Path) -> None:
    told: list[tuple[float, str]] = []
    async with asyncio.timeout(WITHIN_S):
        check = await Upkeep(data, "A").verify_log(lambda percent, what: told.append((percent, what)))
    assert (check.intact, check.records, check.term, check.fault) == (True, 5000, 1, None)
    assert check.hash == notes(5000)[-1].hash.hex()
    assert told[-1] == (100, "seq 5000 of 5000")
    assert len(told) > 1


async def test_a_log_that_is_not_intact_is_an_answer_that_names_the_file_and_the_seq(data: Path) -> None:
    path = data / "log.db"
    path.write_bytes(path.read_bytes().replace(b"note 77", b"note 7x", 1))
    async with asyncio.timeout(WITHIN_S):
        check = await Upkeep(data, "A").verify_log(lambda *_: None)
    assert not check.intact
    assert check.fault is not None
    assert check.fault.file == str(path)
    assert check.fault.seq > 0


async def test_a_log_that_cannot_be_read_is_the_childs_last_word(tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match=r"log\.db: No such file"):
        await asyncio.wait_for(Upkeep(tmp_path, "A").verify_log(lambda *_: None), WITHIN_S)


async def test_a_child_whose_caller_is_cancelled_is_ended(data: Path) -> None:
    path = str(data / "log.db")
    running = asyncio.create_task(child.run(["log", "show", "--follow", "--db", path], lambda *_: None))

    def children() -> list[Path]:
        """The processes that name this log."""
        return [file for file in Path("/proc").glob("[0-9]*/cmdline") if path.encode() in _content(file)]

    await until(lambda: len(children()) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert children() == []


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
