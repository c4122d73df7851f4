from __future__ import annotations

import tarfile
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.event import START, Event, Position, Record, Stamp, seal
from middlewared.kernel.upkeep import Saved
from middlewared.store import backup
from middlewared.store.log import LogStore
from middlewared.store.state import StateStore

ABOUT = backup.About(version="1.2.3", cluster="c1", node="B")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(LogStore.open(tmp_path / "log.db")) as log:
        log.append(records(300))
    StateStore.open(tmp_path / "state.db", []).close()
    return tmp_path


class Noted(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "test.noted"
    n: int


def records(count: int, after: Position = START) -> list[Record]:
    made: list[Record] = []
    for n in range(count):
        stamp = Stamp(term=3, origin="A", actor="", request_id="", wall_ns=0)
        made.append(seal(Noted(n=n), made[-1].position if made else after, stamp))
    return made


def save(data: Path, floor: int = 0) -> Saved:
    return backup.save(data, ABOUT, [], lambda _: 2, floor, lambda *_: None)


def test_the_archive_says_what_it_holds_and_whose_it_is(data: Path) -> None:
    made = save(data)
    with tarfile.open(made.path) as tar:
        assert tar.getnames() == ["manifest.json", "log.db", "state.db"]
        text = tar.extractfile("manifest.json")
        assert text is not None
        manifest = msgspec.json.decode(text.read(), type=backup.Manifest)
    head = records(300)[-1]
    assert (manifest.version, manifest.cluster, manifest.node, manifest.log_format) == ("1.2.3", "c1", "B", 2)
    assert (manifest.seq, manifest.term, manifest.hash) == (300, head.term, head.hash.hex())
    assert manifest.files.keys() == {"log.db", "state.db"}
    assert list((data / "backup").iterdir()) == [Path(made.path)]


def test_a_log_that_is_written_meanwhile_is_held_up_by_nothing_and_copied_as_it_was(data: Path) -> None:
    with closing(LogStore.open(data / "log.db")) as log:
        more = iter(records(50, records(300)[-1].position))

        def write(*_: int) -> None:
            record = next(more, None)
            if record is not None:
                log.append([record])

        made = backup.save(data, ABOUT, [], lambda _: 2, 0, write)
        assert log.head().seq > 300
    assert 300 <= made.seq <= 350


def test_the_newest_stay_and_older_ones_go(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for n in range(backup.KEPT + 3):
        monkeypatch.setattr("time.gmtime", lambda n=n: (2026, 1, 1, 0, 0, n, 3, 1, 0))
        made.append(Path(save(data).path))
    assert sorted((data / "backup").iterdir()) == made[3:]


def test_without_room_nothing_is_made(data: Path) -> None:
    with pytest.raises(PortFailed, match="free space"):
        save(data, floor=2**60)
    assert list((data / "backup").iterdir()) == []


def test_one_backup_is_made_at_a_time(data: Path) -> None:
    def again(*_: int) -> None:
        with pytest.raises(PortFailed, match="another backup is being made"):
            save(data)

    made = backup.save(data, ABOUT, [], lambda _: 2, 0, again)
    assert list((data / "backup").iterdir()) == [Path(made.path)]
