"""Notes on their way to a real file, and the events of a real log with what they changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from middlewared.engine.audit import QUEUE, AuditTrail
from middlewared.kernel.audit import Filter, Kept, Note
from middlewared.kernel.errors import PortFailed
from middlewared.shell.clock import SystemClock
from middlewared.store.audit import AuditStore
from tests.engine.controllers import REGISTRY
from tests.engine.pair import Pair

ALL = Filter()


class Failing:
    """A store whose disk is full, until `mended`."""

    def __init__(self, store: AuditStore) -> None:
        self.mended = False
        self._store = store

    def write(self, notes: Sequence[Note]) -> None:
        if not self.mended:
            raise PortFailed("write the audit", "the disk is full")
        self._store.write(notes)

    def find(self, wanted: Filter, before: int | None, limit: int) -> list[Kept]:
        return self._store.find(wanted, before, limit)

    def close(self) -> None:
        self._store.close()


def trail_over(pair: Pair, store: AuditStore | Failing) -> AuditTrail:
    return AuditTrail(store, pair.a.log, lambda: pair.a.state.history, REGISTRY, SystemClock())


@pytest.fixture
async def trail(pair: Pair, tmp_path: Path) -> AsyncIterator[AuditTrail]:
    made = trail_over(pair, AuditStore.open(tmp_path / "audit.db"))
    yield made
    await made.close()


async def test_a_note_is_found_as_soon_as_it_was_made(trail: AuditTrail) -> None:
    trail.note("login", who="eva", origin="10.0.0.9:5", method="auth.login", request_id="r", errno=0, reason="")
    (kept,) = await trail.rows(ALL, None, 10)
    assert (kept.note.kind, kept.note.who, kept.note.times) == ("login", "eva", 1)


async def test_notes_that_differ_in_their_time_alone_become_one_with_a_count(trail: AuditTrail) -> None:
    for _ in range(1000):
        trail.note("refused", who="eva", method="a.b", errno=13)
    trail.note("refused", who="eva", method="a.c", errno=13)
    found = [(kept.note.method, kept.note.times) for kept in await trail.rows(ALL, None, 10)]
    assert found == [("a.c", 1), ("a.b", 1000)]


async def test_what_finds_no_room_is_counted_and_shown(trail: AuditTrail) -> None:
    for n in range(QUEUE + 7):
        trail.note("read", method=f"a.{n}")
    found = await trail.rows(Filter(kinds=("lost",)), None, 10)
    assert [kept.note.times for kept in found] == [7]


async def test_what_cannot_be_written_is_counted_and_shown_when_it_can_be_again(pair: Pair, tmp_path: Path) -> None:
    store = Failing(AuditStore.open(tmp_path / "audit.db"))
    trail = trail_over(pair, store)
    trail.note("login", who="eva")
    assert await trail.rows(ALL, None, 10) == []
    store.mended = True
    trail.note("login", who="ida")
    assert [(k.note.kind, k.note.times) for k in await trail.rows(ALL, None, 10)] == [("lost", 1), ("login", 1)]
    await trail.close()


async def test_long_texts_are_cut(trail: AuditTrail) -> None:
    trail.note("login_failed", who="x" * 10_000, reason="y" * 10_000)
    (kept,) = await trail.rows(ALL, None, 10)
    assert (len(kept.note.who), len(kept.note.reason)) == (100, 250)


async def test_an_event_is_shown_with_who_asked_and_the_fields_that_it_changed(pair: Pair, trail: AuditTrail) -> None:
    await pair.a.update(domain="one.example")
    await pair.a.update(domain="two.example", hostname="nas")
    newest, older, *_ = await trail.events(ALL, None, 10)
    assert newest.event == "network.configuration.updated"
    assert newest.before is not None
    assert newest.after is not None
    assert newest.before["domain"] == "one.example"
    assert newest.after["domain"] == "two.example"
    assert older.after is not None
    assert older.after["domain"] == "one.example"
    assert "nameserver1" not in newest.after


async def test_only_what_is_looked_for_is_shown_page_by_page(pair: Pair, trail: AuditTrail) -> None:
    for n in range(5):
        await pair.a.update(domain=f"n{n}.example")
    first = await trail.events(Filter(node="A"), None, 2)
    then = await trail.events(Filter(node="A"), first[-1].seq, 2)
    assert [event.seq for event in (*first, *then)] == list(range(first[0].seq, first[0].seq - 4, -1))
    assert await trail.events(Filter(user="nobody"), None, 10) == []
    assert await trail.events(Filter(node="B"), None, 10) == []
    assert await trail.events(Filter(until_ns=1), None, 10) == []
