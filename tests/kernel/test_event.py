"""Events, records, the hash chain, the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.errors import UpgradePending
from middlewared.kernel.event import (
    GENESIS_HASH,
    START,
    Catalogue,
    Event,
    Position,
    Record,
    Stamp,
    UnknownKind,
    chained,
    digest,
    follows,
    seal,
)


class Renamed(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "box.renamed"
    version: ClassVar[int] = 3
    since_format: ClassVar[tuple[int, ...]] = (1, 1, 2)
    name: str
    colour: str


class Emptied(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "box.emptied"


STAMP = Stamp(term=7, origin="B", actor="admin", request_id="r-1", wall_ns=1_700_000_000_000_000_000)

events = st.builds(Renamed, name=st.text(), colour=st.text()) | st.builds(Emptied)
stamps = st.builds(
    Stamp,
    term=st.integers(1, 2**40),
    origin=st.sampled_from(["A", "B"]),
    actor=st.text(),
    request_id=st.text(),
    wall_ns=st.integers(0, 2**63 - 1),
)
positions = st.builds(Position, st.integers(0, 2**40), st.just(1), st.binary(min_size=32, max_size=32))


def stored(kind: str, version: int, payload: bytes) -> Record:
    """A record as an older build wrote it."""
    unsigned = msgspec.structs.replace(seal(Emptied(), START, STAMP), kind=kind, version=version, payload=payload)
    return msgspec.structs.replace(unsigned, hash=digest(unsigned))


@given(events, positions, stamps)
def test_a_sealed_event_follows_the_position_that_it_was_sealed_after(
    event: Event, after: Position, stamp: Stamp
) -> None:
    assert follows(seal(event, after, stamp), after) is None


@given(events, stamps)
def test_sealing_the_same_event_with_the_same_stamp_gives_the_same_bytes(event: Event, stamp: Stamp) -> None:
    assert seal(event, START, stamp) == seal(event, START, stamp)


@given(events, stamps)
def test_the_catalogue_opens_what_was_sealed(event: Event, stamp: Stamp) -> None:
    assert Catalogue([Renamed, Emptied]).open(seal(event, START, stamp)) == event


def test_the_hash_is_the_documented_one() -> None:
    record = seal(Emptied(), START, STAMP)
    header = b'[1,7,"B","box.emptied",1,"admin","r-1",1700000000000000000]'
    assert record.hash == hashlib.sha256(b"mw-ev1" + GENESIS_HASH + header + b"\n" + b"{}").digest()


def test_a_method_is_the_last_word_of_the_hashed_header() -> None:
    record = seal(Emptied(), START, msgspec.structs.replace(STAMP, method="box.empty"))
    header = b'[1,7,"B","box.emptied",1,"admin","r-1",1700000000000000000,"box.empty"]'
    assert record.hash == hashlib.sha256(b"mw-ev1" + GENESIS_HASH + header + b"\n" + b"{}").digest()


def test_a_record_of_the_first_format_is_read_by_both_builds() -> None:
    record = seal(Emptied(), START, STAMP)
    written_by_the_first = msgspec.json.encode(msgspec.structs.astuple(record)[:11])
    assert msgspec.json.decode(written_by_the_first, type=Record) == record
    assert follows(msgspec.json.decode(written_by_the_first, type=Record), START) is None


@pytest.mark.parametrize(
    "change",
    [
        {"term": 8},
        {"origin": "A"},
        {"kind": "box.opened"},
        {"version": 2},
        {"actor": "somebody"},
        {"request_id": "r-2"},
        {"wall_ns": 1},
        {"payload": b"{ }"},
        {"hash": bytes(32)},
        {"method": "box.empty"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_any_field_is_found_by_the_hash(change: dict[str, object]) -> None:
    record = msgspec.structs.replace(seal(Emptied(), START, STAMP), **change)
    assert follows(record, START) == "its bytes do not give its hash"


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (Position(2, 7, GENESIS_HASH), "seq 1 where 3 belongs"),
        (Position(0, 8, GENESIS_HASH), "term 7 after term 8"),
        (Position(0, 7, b"\1" * 32), "prev is not the hash of the record before"),
    ],
)
def test_a_record_in_the_wrong_place_is_refused_with_the_reason(after: Position, why: str) -> None:
    assert follows(seal(Emptied(), START, STAMP), after) == why


def test_the_next_record_may_begin_a_higher_term() -> None:
    first = seal(Emptied(), START, STAMP)
    second = seal(Emptied(), first.position, msgspec.structs.replace(STAMP, term=9))
    assert follows(second, first.position) is None


def test_of_many_records_it_is_said_where_they_end_and_why_the_next_cannot_stand_there() -> None:
    first = seal(Emptied(), START, STAMP)
    second = seal(Emptied(), first.position, STAMP)
    assert chained((first, second), START) == (second.position, None)
    assert chained((), START) == (START, None)
    assert chained((first, first, second), START) == (first.position, "seq 1 where 2 belongs")
    changed = msgspec.structs.replace(second, payload=b"{ }")
    assert chained((first, changed), START) == (first.position, "its bytes do not give its hash")


def lift_colour(payload: dict[str, object]) -> dict[str, object]:
    return {**payload, "colour": "grey"}


def lift_name(payload: dict[str, object]) -> dict[str, object]:
    return {"name": payload["title"]}


Lift = Callable[[dict[str, object]], dict[str, object]]
LIFTS: dict[tuple[str, int], Lift] = {("box.renamed", 1): lift_name, ("box.renamed", 2): lift_colour}


@pytest.mark.parametrize(
    ("version", "payload"), [(1, b'{"title":"x"}'), (2, b'{"name":"x"}'), (3, b'{"name":"x","colour":"grey"}')]
)
def test_every_old_version_is_lifted_step_by_step_to_the_present_one(version: int, payload: bytes) -> None:
    record = stored("box.renamed", version, payload)
    assert Catalogue([Renamed], LIFTS).open(record) == Renamed(name="x", colour="grey")


@pytest.mark.parametrize(("kind", "version"), [("box.painted", 1), ("box.renamed", 4)])
def test_an_unknown_kind_or_a_newer_version_is_said_and_not_guessed(kind: str, version: int) -> None:
    catalogue = Catalogue([Renamed], LIFTS)
    record = stored(kind, version, b"{}")
    assert not catalogue.knows(record)
    with pytest.raises(UnknownKind, match=f"seq 1: kind {kind} version {version}"):
        catalogue.open(record)


class Painted(Event, frozen=True, kw_only=True):
    """A kind that the second format brought."""

    kind: ClassVar[str] = "box.painted"
    since_format: ClassVar[tuple[int, ...]] = (2,)


def lower_colour(payload: dict[str, object]) -> dict[str, object]:
    return {"name": payload["name"]}


@pytest.mark.parametrize(
    ("log_format", "version", "payload"), [(1, 2, b'{"name":"x"}'), (2, 3, b'{"name":"x","colour":"red"}')]
)
def test_a_log_of_an_older_format_is_given_the_newest_version_that_it_may_hold(
    log_format: int, version: int, payload: bytes
) -> None:
    catalogue = Catalogue([Renamed], LIFTS, {("box.renamed", 3): lower_colour})
    record = catalogue.seal(Renamed(name="x", colour="red"), START, STAMP, log_format)
    assert (record.version, record.payload) == (version, payload)
    assert follows(record, START) is None
    read = catalogue.open(record)
    assert read == Renamed(name="x", colour="red" if log_format == 2 else "grey")


@pytest.mark.parametrize("event", [Renamed(name="x", colour="red"), Painted()])
def test_what_an_older_format_has_no_words_for_is_refused_and_says_what_to_do(event: Event) -> None:
    catalogue = Catalogue([Renamed, Painted], LIFTS)
    with pytest.raises(UpgradePending, match=r"needs log format 2, .* format 1 until upgrade\.finalize"):
        catalogue.seal(event, START, STAMP, 1)
    assert catalogue.open(catalogue.seal(event, START, STAMP, 2)) == event


def test_a_version_that_does_not_say_since_when_it_is_written_is_refused() -> None:
    class Silent(Renamed, frozen=True, kw_only=True):
        since_format: ClassVar[tuple[int, ...]] = (1,)

    with pytest.raises(ValueError, match="since when"):
        Catalogue([Silent])


def test_a_kind_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"box\.emptied"):
        Catalogue([Emptied, Renamed, Emptied])


def test_the_digest_of_a_catalogue_depends_on_kinds_and_versions_only() -> None:
    class Newer(Renamed, frozen=True, kw_only=True):
        version: ClassVar[int] = 4
        since_format: ClassVar[tuple[int, ...]] = (1, 1, 2, 2)

    assert Catalogue([Renamed, Emptied]).digest() == Catalogue([Emptied, Renamed]).digest()
    assert Catalogue([Renamed, Emptied]).digest() != Catalogue([Newer, Emptied]).digest()
    assert Catalogue([Renamed]).digest() != Catalogue([Renamed, Emptied]).digest()
