from __future__ import annotations

from pathlib import Path

from middlewared.store.room import LOOK_S, Room

MIB = 1024 * 1024
FLOOR = 64 * MIB


class Disk:
    """free: what the file system says; None: it cannot say. asked: how often it was."""

    def __init__(self, free: int | None) -> None:
        self.free = free
        self.asked = 0
        self.now = 0.0
        self.room = Room(Path("/data"), FLOOR, lambda: self.now, self._free)

    def _free(self, _: Path) -> int:
        self.asked += 1
        if self.free is None:
            raise OSError(5, "Input/output error")
        return self.free

    def later(self, free: int | None) -> str | None:
        self.free = free
        self.now += LOOK_S
        return self.room.why_not()


def test_below_the_floor_the_answer_names_the_directory_what_is_free_and_the_floor() -> None:
    assert Disk(FLOOR - 1).room.why_not() == (
        "/data has 63 MiB of free space and the floor is 64 MiB; writes are taken again from 80 MiB"
    )


def test_at_the_floor_writes_go_on_but_a_disk_that_was_below_it_must_have_more() -> None:
    disk = Disk(FLOOR)
    assert disk.room.why_not() is None
    assert disk.later(FLOOR - 1) is not None
    assert disk.later(FLOOR) is not None
    assert disk.later(80 * MIB - 1) is not None
    assert disk.later(80 * MIB) is None
    assert disk.later(FLOOR) is None


def test_the_file_system_is_asked_at_most_twice_a_second() -> None:
    disk = Disk(FLOOR)
    for _ in range(1000):
        disk.room.why_not()
    assert disk.asked == 1
    disk.later(FLOOR)
    assert disk.asked == 2


def test_a_file_system_that_does_not_say_takes_nothing_and_is_named() -> None:
    assert Disk(None).room.why_not() == "/data: its free space is not known: Input/output error"


def test_the_real_file_system_is_asked(tmp_path: Path) -> None:
    assert Room(tmp_path, 1, lambda: 0.0).why_not() is None
    assert Room(tmp_path, 1 << 62, lambda: 0.0).why_not() is not None
