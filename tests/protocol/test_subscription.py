from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewared.protocol.session import Session
from middlewared.protocol.subscription import OUTBOX_LIMIT, SPAN, Cursor, change


def session() -> Session:
    ids = count()
    return Session(id="s", origin="10.0.0.9:5", local_root=False, new_id=lambda: f"id{next(ids)}")


def told(seq: int, collection: str = "user") -> bytes:
    return change(collection, fields={"kind": "x"}, seq=seq, term=1)


def waiting(client: Session) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in client.outbox]


def seqs(client: Session) -> list[int]:
    return [notice["params"]["seq"] for notice in waiting(client)]


def test_a_change_of_the_log_carries_seq_and_term_and_another_carries_no_term() -> None:
    from_log = json.loads(change("user", seq=4, term=2))["params"]
    other = json.loads(change("failover.status", fields={"status": "MASTER"}, seq=4))["params"]
    assert from_log == {"msg": "changed", "collection": "user", "seq": 4, "term": 2}
    assert other == {"msg": "changed", "collection": "failover.status", "fields": {"status": "MASTER"}, "seq": 4}


def test_while_a_subscription_replays_the_log_what_is_committed_is_left_to_the_replay() -> None:
    client = session()
    behind = client.subscribe("user", Cursor(1, 1), addressed=True, replaying=True)
    client.notify("user", told(3), Cursor(3, 1))
    assert seqs(client) == []
    client.replayed(behind, [told(2), told(3)], Cursor(3, 1), applied=3)
    client.notify("user", told(4), Cursor(4, 1))
    assert (seqs(client), behind.replaying, behind.at) == ([2, 3, 4], False, Cursor(4, 1))


def test_a_span_that_ends_before_the_present_leaves_it_replaying() -> None:
    client = session()
    behind = client.subscribe("user", Cursor(0, 0), addressed=True, replaying=True)
    client.replayed(behind, [told(1)], Cursor(1, 1), applied=2)
    client.notify("user", told(2), Cursor(2, 1))
    assert (seqs(client), client.to_replay()) == ([1], behind)


def test_what_is_not_in_the_log_is_told_while_the_log_is_replayed() -> None:
    client = session()
    client.subscribe("*", Cursor(0, 0), addressed=True, replaying=True)
    client.notify("failover.status", change("failover.status", seq=9))
    assert [notice["params"]["collection"] for notice in waiting(client)] == ["failover.status"]


def test_two_subscriptions_of_one_connection_are_told_apart_by_their_ids() -> None:
    client = session()
    one = client.subscribe("user", addressed=True)
    client.subscribe("*", addressed=True)
    client.subscribe("user")
    client.notify("user", told(1), Cursor(1, 1))
    ids = [notice["params"].get("subscription") for notice in waiting(client)]
    assert sorted(ids, key=str) == [None, "id0", "id1"]
    assert one.id == "id0"


def test_who_falls_behind_is_told_since_which_record_to_resume() -> None:
    client = session()
    client.subscribe("user", Cursor(7, 1), addressed=True)
    for seq in range(8, 8 + OUTBOX_LIMIT + 1):
        client.notify("user", told(seq), Cursor(seq, 1))
    last = waiting(client)[-1]
    assert (last["method"], last["params"]["subscription"]) == ("notify_unsubscribed", "id0")
    error = last["params"]["error"]
    assert (error["errname"], error["extra"]) == (
        "ENOBUFS",
        {"resume": True, "since": 7 + OUTBOX_LIMIT, "term": 1},
    )
    assert seqs_of_updates(client)[-1] == 7 + OUTBOX_LIMIT


def seqs_of_updates(client: Session) -> list[int]:
    return [notice["params"]["seq"] for notice in waiting(client) if notice["method"] == "collection_update"]


def test_a_cut_of_applied_records_ends_what_comes_from_the_log_and_says_what_may_be_resumed() -> None:
    client = session()
    client.subscribe("user", Cursor(5, 1), addressed=True)
    client.subscribe("*", Cursor(9, 1), addressed=True)
    client.subscribe("failover.status")
    client.cut(6, lambda name: name == "user")
    ends = {notice["params"]["collection"]: notice["params"]["error"] for notice in waiting(client)}
    assert {name: (e["errname"], e["extra"]["resume"], e["extra"]["cut_after"]) for name, e in ends.items()} == {
        "user": ("ESTALE", True, 6),
        "*": ("ESTALE", False, 6),
    }
    assert client.hears("failover.status")
    assert not client.hears("user")


def test_a_replay_waits_for_room_and_is_told_when_there_is_some() -> None:
    client = session()
    rooms: list[int] = []
    client.on_room = lambda: rooms.append(len(client.outbox))
    behind = client.subscribe("user", Cursor(0, 0), addressed=True, replaying=True)
    client.replayed(behind, [told(seq) for seq in range(1, SPAN + 2)], Cursor(SPAN + 1, 1), applied=10_000)
    assert not client.has_room()
    client.take()
    assert client.has_room()
    assert rooms == [SPAN]


def test_a_span_for_a_subscription_that_ended_meanwhile_is_dropped() -> None:
    client = session()
    behind = client.subscribe("user", Cursor(0, 0), addressed=True, replaying=True)
    client.unsubscribe(behind.id)
    client.replayed(behind, [told(1)], Cursor(1, 1), applied=1)
    assert seqs(client) == []


class Reader:
    """A client at a session, a log beside it, and a reader of the log that may be overtaken by commits.

    Each deed is one turn of the loop. The client resumes by itself whenever it is told to, and when its connection is
    lost, since the last record that it was given.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[str] = []
        self.given: list[int] = []
        self.reading: tuple[Any, int, int] | None = None
        self.connect(0)

    def connect(self, since: int) -> None:
        self.client = session()
        self.reading = None
        self.subscribe(since)

    def subscribe(self, since: int) -> None:
        self.client.subscribe(self.name, Cursor(since, 1), addressed=True, replaying=True)

    @property
    def last(self) -> int:
        return self.given[-1] if self.given else 0

    def commit(self, collection: str, n: int) -> None:
        for _ in range(n):
            self.log.append(collection)
            seq = len(self.log)
            self.client.notify(collection, told(seq, collection), Cursor(seq, 1))

    def take(self, n: int) -> None:
        for _ in range(min(n, len(self.client.outbox))):
            notice = json.loads(self.client.take())
            if notice["method"] == "collection_update":
                self.given.append(notice["params"]["seq"])
            else:
                extra = notice["params"]["error"]["extra"]
                assert extra["resume"]
                assert extra["since"] >= self.last
                self.subscribe(extra["since"])

    def read(self) -> None:
        """Begin to read a span, or queue the one that was read."""
        if self.reading is None:
            behind = self.client.to_replay()
            if behind is not None and self.client.has_room():
                self.reading = (behind, behind.at.seq, min(behind.at.seq + SPAN, len(self.log)))
            return
        behind, after, upto = self.reading
        self.reading = None
        heard = [seq for seq in range(after + 1, upto + 1) if behind.hears(self.log[seq - 1])]
        changes = [told(seq, self.log[seq - 1]) for seq in heard]
        self.client.replayed(behind, changes, Cursor(upto, 1), len(self.log))

    def finish(self) -> None:
        while self.client.outbox or self.client.to_replay() is not None:
            self.read()
            self.take(OUTBOX_LIMIT * 2)

    def wanted(self) -> list[int]:
        return [seq for seq, collection in enumerate(self.log, 1) if self.name in (collection, "*")]


DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(["user", "pool"]), st.sampled_from([1, 2, 300, 1200])),
        st.tuples(st.just("take"), st.sampled_from([1, 50, 900])),
        st.tuples(st.just("read")),
        st.tuples(st.just("lose")),
    ),
    max_size=40,
)


@pytest.mark.parametrize("name", ["user", "*"])
@given(deeds=DEEDS)
@settings(max_examples=120, deadline=None)
def test_whatever_comes_between_each_record_is_given_exactly_once_and_in_order(name: str, deeds: list[Any]) -> None:
    reader = Reader(name)
    for deed, *arguments in deeds:
        if deed == "lose":
            reader.connect(reader.last)
        else:
            getattr(reader, deed)(*arguments)
        assert len(reader.client.outbox) <= OUTBOX_LIMIT + 2 * SPAN + 1
    reader.finish()
    assert reader.given == reader.wanted()
