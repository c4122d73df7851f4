from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.kernel.audit import Filter, Note
from middlewared.kernel.errors import PortFailed
from middlewared.store.audit import AuditStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AuditStore]:
    made = AuditStore.open(tmp_path / "audit.db", rows=10)
    yield made
    made.close()


def note(at: int, **fields: object) -> Note:
    return Note(at_ns=at, **{"kind": "login", "who": "eva", **fields})  # type: ignore[arg-type]


def test_what_was_written_is_found_newest_first(store: AuditStore) -> None:
    notes = [note(n, origin="10.0.0.9:5", method="auth.login", errno=n, reason="because", times=2) for n in range(5)]
    store.write(notes)
    assert [kept.note for kept in store.find(Filter(), None, 100)] == notes[::-1]
    assert [kept.id for kept in store.find(Filter(), None, 2)] == [5, 4]
    assert [kept.id for kept in store.find(Filter(), 4, 2)] == [3, 2]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(since_ns=2), [3, 2]),
        (Filter(until_ns=1), [1, 0]),
        (Filter(user="ida"), [1]),
        (Filter(method="core.ping"), [2]),
        (Filter(request_id="r"), [3]),
        (Filter(kinds=("refused", "login")), [3, 1, 0]),
        (Filter(kinds=()), []),
    ],
)
def test_what_is_looked_for_is_found_and_nothing_else(store: AuditStore, wanted: Filter, found: list[int]) -> None:
    store.write([note(0), note(1, who="ida"), note(2, kind="job", method="core.ping"), note(3, request_id="r")])
    assert [kept.note.at_ns for kept in store.find(wanted, None, 100)] == found


def test_the_oldest_make_room_for_the_newest_and_their_ids_are_not_used_again(store: AuditStore) -> None:
    for n in range(5):
        store.write([note(n * 5 + i) for i in range(5)])
    assert [kept.id for kept in store.find(Filter(), None, 100)] == list(range(25, 15, -1))


def test_a_file_that_is_damaged_is_kept_beside_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    path.write_bytes(b"no database at all" * 100)
    store = AuditStore.open(path)
    store.write([note(1)])
    assert len(store.find(Filter(), None, 10)) == 1
    store.close()
    assert (tmp_path / "audit.db.damaged").read_bytes().startswith(b"no database")


def test_a_damaged_file_that_cannot_be_put_away_is_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    path.write_bytes(b"no database at all" * 100)
    (tmp_path / "audit.db.damaged").mkdir()
    with pytest.raises(PortFailed, match="put the damaged audit away"):
        AuditStore.open(path)
