from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.event import LOG_FORMAT, START, Event, Position, Record, Stamp, seal
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.replication_frames import History, Identity, TermEnd, match_point

A = Identity(cluster_id="c1", node="A", catalogue="x", secret_keys=("a1", "b2"))
B = Identity(cluster_id="c1", node="B", catalogue="x")


class Noted(Event, frozen=True, kw_only=True):
    kind = "test.noted"
    text: str


def chain(*sizes: int) -> list[Record]:
    records: list[Record] = []
    after = START
    for size in sizes:
        stamp = Stamp(term=1, origin="A", actor="a", request_id="", wall_ns=0)
        records.append(seal(Noted(text="x" * size), after, stamp))
        after = records[-1].position
    return records


# Two logs with one past. A term has one writer, so what comes after the past is of terms that the other log has not,
# but for the last common term, which one of them may hold more of.

lengths = st.lists(st.integers(1, 4), max_size=4)


def history(terms: Sequence[int]) -> History:
    ends = {term: TermEnd(term, seq, b"") for seq, term in enumerate(terms, 1)}
    return tuple(ends.values())


def terms_from(first: int, sizes: Sequence[int], step: int) -> list[int]:
    return [first + step * i for i, size in enumerate(sizes) for _ in range(size)]


@st.composite
def two_logs(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """(what both hold, one log, the other), each the terms of its records."""
    past = terms_from(1, draw(lengths), 1)
    more = [past[-1]] * draw(st.integers(0, 3)) if past else []
    mine = past + more + terms_from(10, draw(lengths), 2)
    theirs = past + terms_from(11, draw(lengths), 2)
    return past, mine, theirs


@given(two_logs())
def test_the_match_point_is_the_last_record_that_both_logs_hold(logs: tuple[list[int], list[int], list[int]]) -> None:
    past, mine, theirs = logs
    expected = (past[-1], len(past)) if past else (0, 0)
    assert match_point(history(mine), history(theirs)) == expected
    assert match_point(history(theirs), history(mine)) == expected


@given(lengths, st.data())
def test_a_log_matches_a_shorter_one_of_its_own_at_the_shorter_ones_end(sizes: list[int], data: st.DataObject) -> None:
    whole = terms_from(1, sizes, 1)
    short = whole[: data.draw(st.integers(0, len(whole)))]
    assert match_point(history(whole), history(short)) == ((short[-1], len(short)) if short else (0, 0))


def test_logs_of_which_one_is_empty_match_at_the_start() -> None:
    assert match_point((), history([1, 1])) == match_point(history([1, 1]), ()) == (0, 0)


def test_the_hash_is_known_where_a_term_ends_and_nowhere_else() -> None:
    ends = (TermEnd(1, 2, b"two"), TermEnd(3, 5, b"five"))
    assert [frames.hash_at(ends, seq) for seq in (0, 2, 3, 5)] == [None, b"two", None, b"five"]


# The wire

RECORDS = tuple(chain(3, 0, 7))
HEAD = RECORDS[-1].position


@pytest.mark.parametrize(
    "frame",
    [
        frames.Hello(A),
        frames.Lead(4),
        frames.Follow(4, HEAD, (TermEnd(1, 3, HEAD.hash),)),
        frames.Match(4, HEAD),
        frames.Append(4, START, RECORDS, 2, 1),
        frames.Ack(4, HEAD, 2),
        frames.Commit(4, 3, 2),
        frames.Fetch(4, START),
        frames.Tail(4, START, RECORDS, HEAD),
        frames.Stale(9),
        frames.Refuse("no"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_frame_is_read_as_it_was_written(frame: frames.Frame) -> None:
    read = frames.decode(frames.encode(frame))
    assert read == frame
    assert type(read) is type(frame)


def test_records_travel_with_their_stored_bytes() -> None:
    read = frames.decode(frames.encode(frames.Append(4, START, RECORDS, 2, 1)))
    assert isinstance(read, frames.Append)
    assert [record.payload for record in read.records] == [record.payload for record in RECORDS]
    assert isinstance(read.prev, Position)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_raise_anything_but_a_decode_error(body: bytes) -> None:
    try:
        frames.decode(body)
    except msgspec.DecodeError:
        return


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_frame_that_was_cut_short_is_refused(cut: int) -> None:
    body = frames.encode(frames.Append(4, START, RECORDS, 2, 1))
    with pytest.raises(msgspec.DecodeError):
        frames.decode(body[:-cut])


# Two builds on one line

OF_THE_FIRST_BUILD = {
    frames.Hello, frames.Lead, frames.Follow, frames.Match, frames.Append, frames.Ack, frames.Commit, frames.Fetch,
    frames.Tail, frames.Stale, frames.Refuse,
}  # fmt: skip


@pytest.mark.parametrize("frame", get_args(frames.Frame))
def test_a_frame_goes_to_a_peer_of_the_first_build_only_if_that_build_had_it(frame: type[frames.Frame]) -> None:
    assert frames.may_send(frame, frozenset()) == (frame in OF_THE_FIRST_BUILD)
    assert frames.may_send(frame, frozenset(frames.FEATURES))


@pytest.mark.parametrize("frame", sorted(OF_THE_FIRST_BUILD, key=str))
def test_a_frame_of_the_first_build_has_grown_by_fields_with_a_default_only(frame: type[frames.Frame]) -> None:
    fields = {field.name: field.required for field in msgspec.structs.fields(frame)}
    required = {name for name, is_required in fields.items() if is_required}
    assert (
        required
        == {
            frames.Hello: {"identity"},
            frames.Lead: {"term"},
            frames.Follow: {"term", "head", "history"},
            frames.Match: {"term", "at"},
            frames.Append: {"term", "prev", "records", "commit_seq", "pair_seq"},
            frames.Ack: {"term", "head", "applied_seq"},
            frames.Commit: {"term", "commit_seq", "pair_seq"},
            frames.Fetch: {"term", "after"},
            frames.Tail: {"term", "prev", "records", "head"},
            frames.Stale: {"term"},
            frames.Refuse: {"why"},
        }[frame]
    )


def test_only_what_both_ends_named_is_common() -> None:
    mine = msgspec.structs.replace(A, features=("ask", "digest"))
    assert frames.common_features(mine, B) == frozenset()
    assert frames.common_features(mine, msgspec.structs.replace(B, features=("digest", "later"))) == {"digest"}


def test_a_frame_that_is_not_known_here_is_named_and_one_of_the_wrong_form_is_an_error() -> None:
    assert frames.decode(msgspec.msgpack.encode({"type": "later", "term": 1})) == frames.Unknown("later")
    with pytest.raises(msgspec.DecodeError):
        frames.decode(msgspec.msgpack.encode({"type": "lead", "term": "one"}))
    with pytest.raises(msgspec.DecodeError):
        frames.decode(msgspec.msgpack.encode({"term": 1}))


def test_a_newer_peers_fields_are_passed_over() -> None:
    frame = {"type": "ack", "term": 4, "head": START, "applied_seq": 2, "later": True}
    assert frames.decode(msgspec.msgpack.encode(frame)) == frames.Ack(4, START, 2)


def test_a_record_with_a_method_keeps_it_on_the_wire() -> None:
    stamp = Stamp(term=1, origin="A", actor="a", request_id="", wall_ns=0, method="test.note")
    record = seal(Noted(text=""), START, stamp)
    read = frames.decode(frames.encode(frames.Append(4, START, (record,), 2, 1)))
    assert isinstance(read, frames.Append)
    assert read.records == (record,)


# Who may be a pair


def test_two_controllers_of_one_cluster_are_a_pair_also_when_one_knows_more_events() -> None:
    assert frames.why_refused(A, B) is None
    assert frames.why_refused(A, msgspec.structs.replace(B, catalogue="newer")) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": 2}, "peer speaks link protocol 2, this controller 1"),
        ({"cluster_id": "c2"}, "peer belongs to cluster c2, this controller to c1"),
        ({"node": "A"}, "both controllers say that they are A"),
        ({"key_ids": ("k",)}, "peer holds the keys ('k',), this controller ()"),
        (
            {"secret_keys": ("c3", "d4")},
            "peer holds the keys c3, d4 of secrets, this controller a1, b2, and neither holds the other's",
        ),
        ({"log_format_min": 8, "log_format_max": 9}, f"peer reads log formats 8-9, this controller 1-{LOG_FORMAT}"),
    ],
)
def test_what_keeps_two_from_being_a_pair_is_said(change: dict[str, object], why: str) -> None:
    theirs = msgspec.convert({**msgspec.structs.asdict(B), **change}, Identity)
    assert frames.why_refused(A, theirs) == why


@pytest.mark.parametrize("keys", [(), ("a1",), ("a1", "b2"), ("a1", "b2", "c3")])
def test_two_are_a_pair_while_one_holds_all_keys_of_the_other_or_says_nothing_of_them(keys: tuple[str, ...]) -> None:
    assert frames.why_refused(A, msgspec.structs.replace(B, secret_keys=keys)) is None


def test_log_formats_that_overlap_are_enough() -> None:
    mine = msgspec.structs.replace(A, log_format_min=1, log_format_max=2)
    theirs = msgspec.structs.replace(B, log_format_min=2, log_format_max=5)
    assert frames.why_refused(mine, theirs) is None
    assert frames.why_refused(theirs, mine) is None


# Pieces

sizes = st.lists(st.sampled_from((0, 1000, 200_000)), max_size=12)


@given(sizes)
def test_pieces_hold_every_record_in_order_and_each_fits_a_frame(sizes: list[int]) -> None:
    records = chain(*sizes)
    pieces = list(frames.batches(records))
    assert [record for piece in pieces for record in piece] == records
    assert all(pieces)
    for piece in pieces:
        assert len(frames.encode(frames.Append(2**40, START, piece, 2**50, 2**50))) <= frames.MAX_FRAME


def test_many_small_records_are_cut_at_the_count() -> None:
    records = chain(*[0] * (2 * frames.BATCH_RECORDS + 1))
    assert [len(piece) for piece in frames.batches(records)] == [frames.BATCH_RECORDS, frames.BATCH_RECORDS, 1]


def test_the_largest_record_that_may_be_written_fits_a_frame() -> None:
    # "{"text":""}" is eleven bytes.
    (record,) = chain(256 * 1024 - 11)
    (piece,) = frames.batches([record])
    assert len(frames.encode(frames.Append(2**40, START, piece, 2**50, 2**50))) <= frames.MAX_FRAME


def test_a_history_that_fits_no_frame_is_told_in_parts_the_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = history([1, 2, 2, 3, 5, 5, 8])
    assert frames.told(whole, 0) == (whole, 0)
    monkeypatch.setattr(frames, "HISTORY_TERMS", 2)
    assert frames.told(whole, 0) == (whole[3:], 4)
    assert frames.told(whole, 5) == (whole[1:3], 1)
    assert frames.told(whole, 2) == (whole[:1], 0)


def test_the_longest_history_that_is_told_fits_a_frame() -> None:
    far = 2**40 - frames.HISTORY_TERMS
    long = tuple(TermEnd(far + n, 2**60 + n, bytes([255] * 32)) for n in range(2 * frames.HISTORY_TERMS))
    part, after = frames.told(long, 0)
    body = frames.encode(frames.Follow(2**40, Position(2**62, 2**40, bytes(32)), part, complete=False))
    assert after > 0
    assert len(body) < frames.MAX_FRAME


def test_a_part_in_which_nothing_is_common_is_followed_by_the_question_for_what_came_before() -> None:
    mine, theirs = history([1, 2, 9]), history([1, 2, 3, 4])
    follow = frames.Follow(9, START, theirs[2:], complete=False)
    assert frames.ask_before(mine, follow) == 3
    assert frames.ask_before(mine, msgspec.structs.replace(follow, history=theirs[1:])) is None
    assert frames.ask_before(mine, msgspec.structs.replace(follow, complete=True)) is None


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (Identity(cluster_id="other", node="B", catalogue="x"), "cluster"),
        (Identity(cluster_id="c", node="A", catalogue="x"), "both controllers"),
        (Identity(cluster_id="c", node="B", catalogue="x", protocol=2), "link protocol"),
        (Identity(cluster_id="c", node="B", catalogue="x", log_format_min=9, log_format_max=9), "log formats"),
        (Identity(cluster_id="c", node="B", catalogue="x", key_ids=("k",)), "keys"),
    ],
)
def test_a_peer_that_does_not_belong_here_is_refused_by_name(theirs: Identity, why: str) -> None:
    mine = Identity(cluster_id="c", node="A", catalogue="x")
    assert why in (frames.why_refused(mine, theirs) or "")


def test_a_peer_with_another_catalogue_is_accepted() -> None:
    mine = Identity(cluster_id="c", node="A", catalogue="x")
    assert frames.why_refused(mine, Identity(cluster_id="c", node="B", catalogue="y")) is None
