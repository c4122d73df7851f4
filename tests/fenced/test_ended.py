"""What a controller remembers of having ended itself."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from middlewared.fenced.ended import KEPT, NO_ENDS, WITHIN_S, End, Ends, EndsFile, end_by
from middlewared.kernel.errors import PortFailed


def ends(*at_s: float) -> Ends:
    return Ends(ends=tuple(End(wall_ns=int(at * 1e9), why="deposed") for at in at_s))


class Clock:
    """A wall clock that stands."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def boottime(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return int(self.at_s * 1e9)


def boot(path: Path, boot_id: str, at_s: float = 0.0) -> EndsFile:
    """The file as the fenced of a boot finds it; what was begun to be written is there."""
    notes: list[object] = []
    file = EndsFile(path, boot_id, Clock(at_s), lambda *_, **fields: notes.append(fields))
    written()
    assert notes == []
    return file


def written() -> None:
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(5)


class TestOften:
    def test_three_in_ten_minutes_are_too_often(self) -> None:
        assert not ends(0, 1).often
        assert ends(0, 1, WITHIN_S).often
        assert not ends(0, 1, WITHIN_S + 1).often
        assert ends(0, 10_000, 10_001, 10_002).often

    def test_pardoned_ones_count_no_more(self) -> None:
        pardoned = ends(0, 1, 2).pardon()
        assert not pardoned.often
        assert not pardoned.and_then(End(wall_ns=3, why="again")).often

    def test_only_the_last_ones_are_kept(self) -> None:
        many = NO_ENDS
        for number in range(2 * KEPT):
            many = many.and_then(End(wall_ns=number, why=""))
        assert [end.wall_ns for end in many.ends] == list(range(KEPT, 2 * KEPT))


class TestTheFile:
    def test_the_next_boot_knows_why_and_the_one_after_it_does_not_say_it_again(self, tmp_path: Path) -> None:
        path = tmp_path / "ended.json"
        first = boot(path, "one", at_s=5.0)
        assert first.ends == NO_ENDS
        first.add("two pools are imported here, and B owns")
        first.add("and once more, before the end came")
        second = boot(path, "two")
        end = second.ends.before("two")
        assert end is not None
        assert (end.wall_ns, end.why) == (5_000_000_000, "two pools are imported here, and B owns")
        assert len(second.ends.ends) == 1
        assert boot(path, "two").ends.before("two") == end, "a restart of fenced in the same boot says the same"
        assert boot(path, "three").ends.before("three") is None

    def test_it_counts_over_boots_until_it_is_pardoned(self, tmp_path: Path) -> None:
        path = tmp_path / "ended.json"
        for number in range(3):
            assert not boot(path, f"boot{number}").ends.often
            boot(path, f"boot{number}", at_s=number).add("again")
        held = boot(path, "held")
        assert held.ends.often
        held.pardon()
        written()
        assert not boot(path, "held").ends.often

    def test_a_file_that_is_damaged_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "ended.json").write_bytes(b"{")
        assert boot(tmp_path / "ended.json", "one").ends == NO_ENDS


class TestTheWays:
    def test_the_first_that_is_open_is_taken(self) -> None:
        taken = []

        def barred() -> None:
            raise PortFailed("reboot by init", "Operation not permitted")

        end_by((barred, lambda: taken.append("sysrq"), lambda: taken.append("none")), "deposed")
        assert taken == ["sysrq"]
        with pytest.raises(SystemExit, match="deposed"):
            end_by((barred, barred), "deposed")
