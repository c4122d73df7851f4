"""The shared disks as a controller finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.lab import loops
from middlewared.shell.disks import BlockDisks, serial_in


async def test_a_directory_that_is_not_there_holds_no_disks(tmp_path: Path) -> None:
    assert await BlockDisks(tmp_path / "none").list() == ()


async def test_files_and_broken_links_and_partitions_are_no_disks(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x")
    (tmp_path / "gone").symlink_to("/dev/none-such")
    (tmp_path / "wwn-1-part1").symlink_to("/dev/null")
    assert await BlockDisks(tmp_path).list() == ()


@pytest.mark.parametrize(
    ("file", "content", "serial"),
    [
        ("device/vpd_pg80", b"\0\x80\0\x0aZC1A0001  ", "ZC1A0001"),
        ("device/serial", b"S4EVNX0R\n", "S4EVNX0R"),
        ("serial", b"vol-7", "vol-7"),
        ("size", b"1024", ""),
    ],
)
def test_the_kernel_tells_a_serial_number_in_one_of_three_places(
    tmp_path: Path, file: str, content: bytes, serial: str
) -> None:
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    assert serial_in(tmp_path) == serial


@pytest.fixture
def port(tmp_path: Path) -> Iterator[loops.Loop]:
    """A disk, by a loop device."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "needs root: a loop device"
        pytest.skip("needs root: a loop device")
    image = tmp_path / "disk0.img"
    loops.make_image(image)
    made = loops.Loop(image, "SHELF-0")
    yield made
    made.close()


async def test_a_disk_is_told_once_with_its_size_and_serial_by_whatever_names_it_has(
    port: loops.Loop, tmp_path: Path
) -> None:
    for name in ("a", "bb"):
        (tmp_path / name).symlink_to(port.path)
    (disk,) = await BlockDisks(tmp_path).list()
    assert (disk.name, disk.path) == (port.path.name, str(tmp_path / "a"))
    assert (disk.serial, disk.size) == ("SHELF-0", loops.DISK_BYTES)


async def test_a_disk_whose_cable_is_cut_is_not_there(port: loops.Loop, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(port.path)
    disks = BlockDisks(tmp_path)
    port.limit(loops.ONE_SECTOR)
    assert await disks.list() == ()
    port.limit(0)
    assert [disk.serial for disk in await disks.list()] == ["SHELF-0"]
