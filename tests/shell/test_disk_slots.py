"""Slots on a file, which takes them past the page cache as a device does; contract: tests/contract/test_voter.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middlewared.kernel.facts import PairRecord
from middlewared.kernel.register import Refused, Silent
from middlewared.protocol.slots import AREA_BYTES, SECTOR, Seal, pack
from middlewared.shell.disk_slots import DiskSlots

SEAL = Seal(cluster_id="c0ffee", key=b"k" * 32)


def a_record(serial: int, term: int = 4) -> PairRecord:
    return PairRecord(
        term=term, owner="A", in_sync=("A", "B"), committed_seq=serial, committed_hash=b"\7" * 32, serial=serial
    )


@pytest.fixture
def area(tmp_path: Path) -> Path:
    path = tmp_path / "area"
    with path.open("wb") as file:
        file.truncate(AREA_BYTES)
    return path


@pytest.fixture
async def disk(area: Path) -> AsyncIterator[DiskSlots]:
    slots = DiskSlots("disk0", str(area), deadline_s=2.0, durable_s=5.0)
    slots.use(SEAL)
    yield slots
    slots.close()


def overwrite(area: Path, sector: int, content: bytes) -> None:
    with area.open("r+b") as file:
        file.seek(sector * SECTOR)
        file.write(content)


async def test_without_the_cluster_s_key_nobody_knows_what_is_there(area: Path) -> None:
    slots = DiskSlots("disk0", str(area), deadline_s=2.0, durable_s=5.0)
    assert isinstance(await slots.read_record(), Silent)
    assert isinstance(await slots.write_record(a_record(1)), Silent)
    slots.close()


async def test_a_torn_copy_leaves_the_record_before_it(disk: DiskSlots, area: Path) -> None:
    for serial in (1, 2, 3):
        assert await disk.write_record(a_record(serial)) is None
    overwrite(area, 0, b"torn")  # the third went to the first copy again
    assert await disk.read_record() == a_record(2)
    assert await disk.write_record(a_record(4)) is None
    assert await disk.read_record() == a_record(4)
    overwrite(area, 0, b"torn")
    assert await disk.read_record() == a_record(2)


async def test_both_copies_torn_say_nothing_until_the_next_write(disk: DiskSlots, area: Path) -> None:
    assert await disk.write_record(a_record(1)) is None
    overwrite(area, 0, b"torn")
    found = await disk.read_record()
    assert isinstance(found, Silent)
    assert "no slot" in found.why
    assert await disk.write_record(a_record(2)) is None
    assert await disk.read_record() == a_record(2)


async def test_a_later_record_is_not_written_over(disk: DiskSlots) -> None:
    assert await disk.write_record(a_record(1, term=9)) is None
    assert isinstance(await disk.write_record(a_record(5, term=8)), Refused)
    assert await disk.read_record() == a_record(1, term=9)


async def test_the_heartbeat_is_the_one_of_the_highest_term(disk: DiskSlots, area: Path) -> None:
    assert await disk.read_beat() == 0
    assert await disk.beat("A", 4, 1000) is None
    assert await disk.beat("B", 5, 20) is None
    assert await disk.read_beat() == 20
    overwrite(area, 3, pack("beat", 1, b"not json", SEAL))
    assert await disk.read_beat() == 1000


async def test_a_device_that_goes_and_comes_is_silent_meanwhile(disk: DiskSlots, area: Path) -> None:
    assert await disk.write_record(a_record(1)) is None
    with area.open("r+b") as file:
        file.truncate(0)
    assert isinstance(await disk.read_record(), Silent)
    assert isinstance(await disk.read_beat(), Silent)
    with area.open("r+b") as file:
        file.truncate(AREA_BYTES)
    assert await disk.read_record() is None, "what was there is gone with it"
    assert await disk.write_record(a_record(2)) is None
    assert await disk.read_record() == a_record(2)


async def test_a_device_that_is_not_there_is_silent(tmp_path: Path) -> None:
    slots = DiskSlots("disk0", str(tmp_path / "none"), deadline_s=2.0, durable_s=5.0)
    slots.use(SEAL)
    assert isinstance(await slots.read_record(), Silent)
    assert isinstance(await slots.beat("A", 1, 1), Silent)
    slots.close()
