"""The shelf's claims and the two ports of a disk. Needs root."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Granted, Silent
from middlewared.lab import loops
from tests.contract.conftest import DISKS, ShelfRig, claimed

pytestmark = pytest.mark.root
BLOCK = 4096


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[dict[Node, loops.Loop]]:
    """Both ports of disk 0."""
    image = tmp_path / "disk0.img"
    loops.make_image(image)
    pair: dict[Node, loops.Loop] = {"A": loops.Loop(image), "B": loops.Loop(image)}
    yield pair
    for port in pair.values():
        port.close()
    assert loops.detach_all([image]) == []


@pytest.fixture
async def shelf(tmp_path: Path, devices: dict[Node, loops.Loop]) -> AsyncIterator[ShelfRig]:
    rig = ShelfRig(tmp_path, [f"{node}/0={port.path}" for node, port in devices.items()])
    try:
        await rig.up()
        yield rig
    finally:
        rig.end()


@pytest.fixture
def files(devices: dict[Node, loops.Loop]) -> Iterator[dict[Node, int]]:
    """Both ports, opened once and kept open, as a pool does."""
    opened = {node: os.open(port.path, os.O_RDWR) for node, port in devices.items()}
    yield opened
    for file in opened.values():
        os.close(file)


def may_write(file: int) -> bool:
    try:
        os.pwrite(file, bytes(BLOCK), 16 * BLOCK)
        os.fsync(file)
    except OSError as e:
        assert e.errno in (errno.EPERM, errno.EIO)
        return False
    return True


def writers(files: dict[Node, int]) -> list[Node]:
    return [node for node, file in files.items() if may_write(file)]


async def test_after_a_claim_only_the_holder_writes_on_files_that_are_open_as_well(
    shelf: ShelfRig, files: dict[Node, int]
) -> None:
    a, b = shelf.cable("A", 0), shelf.cable("B", 0)
    assert writers(files) == ["A", "B"], "a free disk refuses nobody"
    await claimed(a, "A", 1)
    assert writers(files) == ["A"]
    await claimed(b, "B", 2)
    assert writers(files) == ["B"]
    await claimed(a, "A", 3)
    assert writers(files) == ["A"]
    assert isinstance(await a.release("A", 3), Granted)
    assert writers(files) == ["A", "B"]


async def test_what_the_loser_wrote_lands_before_the_claim_is_granted_and_nothing_after_it(
    shelf: ShelfRig, files: dict[Node, int]
) -> None:
    a, b = shelf.cable("A", 0), shelf.cable("B", 0)
    await claimed(a, "A", 1)
    assert os.pread(files["B"], 6, 0) == bytes(6), "B read the block, and keeps it in memory"
    for block in range(512):
        os.pwrite(files["A"], b"from A" + bytes(BLOCK - 6), block * BLOCK)  # and no fsync
    await claimed(b, "B", 2)
    assert {os.pread(files["B"], 6, block * BLOCK) for block in range(512)} == {b"from A"}
    os.pwrite(files["B"], b"from B" + bytes(BLOCK - 6), 0)
    os.fsync(files["B"])
    os.fsync(files["A"])
    await claimed(a, "A", 3)
    assert os.pread(files["A"], 6, 0) == b"from B"


async def test_the_ports_follow_the_register_when_the_shelf_is_started_again(
    shelf: ShelfRig, files: dict[Node, int]
) -> None:
    await claimed(shelf.cable("B", 0), "B", 1)
    await shelf.crash()
    assert writers(files) == ["B"]


async def test_the_record_and_the_heartbeat_do_not_touch_the_ports(shelf: ShelfRig, files: dict[Node, int]) -> None:
    a = shelf.cable("A", 0)
    await claimed(a, "A", 1)
    record = PairRecord(term=1, owner="A", in_sync=("A",), committed_seq=1, committed_hash=bytes(32))
    assert isinstance(await a.write_record("A", record), Granted)
    assert writers(files) == ["A"]


async def test_a_disk_whose_ports_cannot_be_opened_is_not_served_and_the_others_are(tmp_path: Path) -> None:
    rig = ShelfRig(tmp_path, [f"A/0={tmp_path}/none"])
    try:
        await rig.up()
        assert isinstance(await rig.cable("A", 0).read(), Silent)
        for disk in range(1, DISKS):
            await claimed(rig.cable("A", disk), "A", 1)
    finally:
        rig.end()
