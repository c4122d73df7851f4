"""Folding the log again gives what was applied step by step; a state.db that cannot be right is noticed."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewared.kernel.errors import LogDamaged
from middlewared.kernel.event import START, Catalogue, Event, Position, Record, Stamp, digest, seal
from middlewared.plugin import Noun
from middlewared.store.log import LogStore
from middlewared.store.rebuild import check_beside, contradiction, open_state, rebuild
from middlewared.store.rows import Difference
from middlewared.store.state import UNKNOWN, Applied, StateStore

Chain = Callable[..., list[Record]]
STAMP = Stamp(term=1, origin="A", actor="admin", request_id="r", wall_ns=0)


@pytest.fixture
def log(path: Path) -> Iterator[LogStore]:
    store = LogStore.open(path)
    yield store
    store.close()


@pytest.fixture
def state_path(path: Path) -> Path:
    return path.with_name("state.db")


def apply_all(store: StateStore, noun: Noun[Any], catalogue: Catalogue, records: list[Record], pair_seq: int) -> None:
    state = store.load([noun])[noun.name]
    for record in records:
        state = noun.evolve(state, catalogue.open(record))
        store.apply({noun: state}, record.position, min(record.seq, pair_seq))


actions = st.lists(
    st.tuples(st.sampled_from(["filled", "broken"]), st.sampled_from("abc"), st.integers(0, 9)), max_size=20
)


@settings(max_examples=25, deadline=None)
@given(actions=actions, part=st.integers(0, 20))
def test_a_rebuilt_state_equals_the_one_that_was_applied_step_by_step(
    shelf: Noun[Any], catalogue: Catalogue, actions: list[tuple[str, str, int]], part: int
) -> None:
    filled, broken = shelf.events
    records: list[Record] = []
    at = START
    for what, name, amount in actions:
        event = filled(name=name, amount=amount) if what == "filled" else broken(name=name)
        records.append(seal(event, at, STAMP))
        at = records[-1].position
    with TemporaryDirectory() as directory:
        log = LogStore.open(Path(directory) / "log.db")
        log.append(records)
        path = Path(directory) / "state.db"
        store = StateStore.open(path, [shelf])
        applied = records[:part]
        apply_all(store, shelf, catalogue, applied, 5)
        states, before = store.load([shelf]), store.digest
        store.close()
        made = rebuild(log, path, catalogue, [shelf], upto=len(applied))
        assert made.digest == before
        assert made.differed is False
        assert made.blocked is None
        again = StateStore.open(path, [shelf])
        assert again.applied() == Applied(made.applied, min(5, len(applied)))
        assert again.load([shelf]) == states
        again.close()
        log.close()


def test_a_deleted_state_is_folded_from_the_whole_log(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    records = chain(5000)
    log.append(records)
    steps: list[int] = []
    made = rebuild(log, state_path, catalogue, [shelf], progress=steps.append)
    assert made.applied == records[-1].position
    assert made.differed is None
    assert steps[-1] == 5000
    assert [path.name for path in state_path.parent.iterdir() if "state" in path.name] == ["state.db"]


def test_what_may_not_be_committed_yet_is_left_out(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    records = chain(10)
    log.append(records)
    store = StateStore.open(state_path, [shelf])
    apply_all(store, shelf, catalogue, records[:6], 0)
    store.close()
    assert rebuild(log, state_path, catalogue, [shelf]).applied.seq == 6
    assert rebuild(log, state_path, catalogue, [shelf], upto=99).applied.seq == 10


def test_a_row_that_the_log_does_not_explain_is_told(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    log.append(chain(10))
    good = rebuild(log, state_path, catalogue, [shelf])
    connection = sqlite3.connect(state_path)
    connection.execute("UPDATE shelf_jar SET count = 99 WHERE name = 'jar-1'")
    connection.commit()
    connection.close()
    made = rebuild(log, state_path, catalogue, [shelf])
    assert made.differed is True
    assert made.difference == Difference(table="shelf_jar", key='["jar-1"]', column="count", here="99", there="2")
    assert made.digest == good.digest


def test_a_state_with_a_row_that_something_else_changed_is_made_again_at_the_same_record(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    records = chain(10)
    log.append(records)
    good = rebuild(log, state_path, catalogue, [shelf], upto=7)
    connection = sqlite3.connect(state_path)
    connection.execute("UPDATE shelf_jar SET count = 99 WHERE name = 'jar-1'")
    connection.commit()
    connection.close()
    store, why, difference = open_state(state_path, log, catalogue, [shelf])
    assert why is not None
    assert "its rows give the digest" in why
    assert difference == Difference(table="shelf_jar", key='["jar-1"]', column="count", here="99", there="2")
    assert store.applied().position == records[6].position
    assert store.digest == good.digest
    store.close()


class Unheard(Event, frozen=True, kw_only=True):
    kind = "unheard.of"


def test_a_kind_that_is_not_known_ends_the_fold_and_is_told(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    records = chain(3)
    unheard = seal(Unheard(), records[-1].position, STAMP)
    log.append([*records, unheard, *chain(2, after=unheard.position)])
    made = rebuild(log, state_path, catalogue, [shelf])
    assert made.applied == records[-1].position
    assert made.blocked == "seq 4: kind unheard.of version 1 is not known here"


def test_a_payload_of_another_shape_ends_the_fold_and_is_told(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    (record,) = chain(1)
    odd = msgspec.structs.replace(record, payload=b'{"name":5,"amount":1}')
    log.append([msgspec.structs.replace(odd, hash=digest(odd))])
    made = rebuild(log, state_path, catalogue, [shelf])
    assert made.applied == START
    assert made.blocked is not None
    assert "seq 1: its payload is no shelf.jar.filled" in made.blocked


def test_events_of_the_engine_itself_belong_to_no_noun_and_are_passed(
    log: LogStore, state_path: Path, shelf: Noun[Any], chain: Chain
) -> None:
    unheard = seal(Unheard(), START, STAMP)
    log.append([unheard, *chain(2, after=unheard.position)])
    made = rebuild(log, state_path, Catalogue([*shelf.events, Unheard]), [shelf])
    assert (made.applied.seq, made.blocked) == (3, None)


def test_a_state_of_this_log_is_opened_as_it_is(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    log.append(chain(4))
    made = rebuild(log, state_path, catalogue, [shelf])
    store, why, _ = open_state(state_path, log, catalogue, [shelf])
    assert why is None
    assert store.applied().position == made.applied
    store.close()
    check_beside(log.path)


@pytest.mark.parametrize("regrown", [0, 1, 6])
def test_a_cut_below_the_applied_position_begins_the_state_anew(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain, regrown: int
) -> None:
    records = chain(6)
    log.append(records)
    rebuild(log, state_path, catalogue, [shelf])
    log.cut(records[2].position, log.path.parent / "quarantine")
    log.append(chain(regrown, after=records[2].position, term=2))
    check_beside(log.path)
    store, why, _ = open_state(state_path, log, catalogue, [shelf])
    assert why == "seq 6 was cut from the log after it was applied"
    assert store.applied() == Applied(log.head(), UNKNOWN)
    store.close()


def test_a_log_that_lost_its_end_is_not_taken_for_the_truth(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    log.append(chain(6))
    store = StateStore.open(state_path, [shelf])
    ahead = chain(9)[-1].position
    store.apply({}, ahead, 9)
    store.close()
    for look in (
        lambda: check_beside(log.path),
        lambda: open_state(state_path, log, catalogue, [shelf]),
        lambda: rebuild(log, state_path, catalogue, [shelf]),
    ):
        with pytest.raises(
            LogDamaged, match=r"log\.db: seq 9: state\.db has this record applied, but the log does not"
        ):
            look()
    with pytest.raises(LogDamaged, match=r"seq 5: .* holds another record there"):
        contradiction(Position(5, 1, bytes(32)), log)


def test_a_state_that_cannot_be_read_is_replaced_and_the_reason_told(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    log.append(chain(300))
    good = rebuild(log, state_path, catalogue, [shelf])
    state_path.write_bytes(random.Random(0).randbytes(state_path.stat().st_size))
    check_beside(log.path)
    store, why, _ = open_state(state_path, log, catalogue, [shelf])
    store.close()
    assert why is not None
    assert "not a database" in why
    assert rebuild(log, state_path, catalogue, [shelf]).digest == good.digest


def test_a_damaged_log_is_not_folded(
    log: LogStore, state_path: Path, shelf: Noun[Any], catalogue: Catalogue, chain: Chain
) -> None:
    log.append(chain(10))
    rebuild(log, state_path, catalogue, [shelf])
    before = state_path.read_bytes()
    connection = sqlite3.connect(log.path)
    connection.execute("DROP TRIGGER event_no_update")
    connection.execute("UPDATE event SET payload = x'7b7d' WHERE seq = 4")
    connection.commit()
    connection.close()
    with pytest.raises(LogDamaged, match="seq 4: its bytes"):
        rebuild(log, state_path, catalogue, [shelf], upto=10)
    assert state_path.read_bytes() == before
