"""Loop devices as the two ports of a disk. Needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.lab import loops

pytestmark = pytest.mark.root


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "disk0.img"
    loops.make_image(file)
    yield file
    assert loops.detach_all([file]) == []


@pytest.fixture
def ports(image: Path) -> Iterator[tuple[loops.Loop, loops.Loop]]:
    pair = (loops.Loop(image), loops.Loop(image))
    yield pair
    for port in pair:
        port.close()


def test_a_disk_image_takes_no_space_until_it_is_written(image: Path) -> None:
    assert image.stat().st_size == loops.DISK_BYTES
    assert image.stat().st_blocks == 0


def test_what_one_port_wrote_the_other_reads(ports: tuple[loops.Loop, loops.Loop]) -> None:
    a, b = (os.open(port.path, os.O_RDWR) for port in ports)
    try:
        os.pwrite(a, b"from A" + bytes(4090), 8192)
        os.fsync(a)
        assert os.pread(b, 6, 8192) == b"from A"
    finally:
        os.close(a)
        os.close(b)


def test_a_port_that_is_cut_refuses_writes_on_open_files_and_the_other_does_not(
    ports: tuple[loops.Loop, loops.Loop],
) -> None:
    a, b = (os.open(port.path, os.O_RDWR) for port in ports)
    try:
        ports[0].limit(loops.ONE_SECTOR)
        with pytest.raises(OSError) as refused:
            os.pwrite(a, bytes(4096), 8192)
        assert refused.value.errno in (errno.ENOSPC, errno.EIO)
        os.pwrite(b, bytes(4096), 8192)
        os.fsync(b)
        ports[0].limit(0)
        os.pwrite(a, bytes(4096), 8192)
        os.fsync(a)
    finally:
        os.close(a)
        os.close(b)


def test_a_port_that_was_left_attached_is_found_by_its_file(image: Path) -> None:
    port = loops.Loop(image)
    attached = Path("/sys/block") / port.path.name / "loop"
    assert loops.detach_all([image]) == [port.path]  # still open here
    assert attached.exists()
    port.close()
    assert loops.detach_all([image]) == []
    assert not attached.exists()


def test_a_port_that_was_fenced_and_detached_is_writable_when_it_is_attached_again(image: Path) -> None:
    port = loops.Loop(image)
    subprocess.run(["blockdev", "--setro", port.path], check=True)
    port.close()
    again = loops.Loop(image)
    assert (Path("/sys/block") / again.path.name / "ro").read_text() == "0\n"
    again.close()


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match=r"no\.img"):
        loops.Loop(tmp_path / "no.img")
