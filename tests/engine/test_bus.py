from __future__ import annotations

import json
from itertools import count

from middlewared.engine.bus import Bus
from middlewared.engine.standin import MemoryLog
from middlewared.protocol.session import Session
from middlewared.protocol.subscription import Cursor


def listener(bus: Bus, *names: str) -> tuple[Session, list[int]]:
    """A session that subscribed to `names`, and the list of its wake-ups."""
    ids = count()
    session = Session(id="s", origin="o", local_root=False, new_id=lambda: str(next(ids)))
    for name in names:
        session.subscribe(name)
    woken: list[int] = []
    bus.attach(session, lambda: woken.append(len(session.outbox)))
    return session, woken


def heard(session: Session) -> list[dict[str, object]]:
    return [json.loads(frame) for frame in session.outbox]


def test_a_change_is_told_to_those_who_subscribed_and_to_nobody_else() -> None:
    log = MemoryLog({})
    bus = Bus(log)
    (one, one_woken), (other, other_woken), (all_, _) = listener(bus, "user"), listener(bus, "pool"), listener(bus, "*")
    log.append("user.changed")
    bus.publish("user", fields={"a": 1})
    told = {
        "jsonrpc": "2.0",
        "method": "collection_update",
        "params": {"msg": "changed", "collection": "user", "fields": {"a": 1}, "seq": 1},
    }
    assert heard(one) == heard(all_) == [told]
    assert (heard(other), one_woken, other_woken) == ([], [1], [])


def test_a_commit_tells_kind_and_seq_and_not_the_rows() -> None:
    bus = Bus(MemoryLog({}))
    session, _ = listener(bus, "user")
    bus.committed("user", "user.administrator.set_up", Cursor(4, 2))
    assert heard(session)[0]["params"] == {
        "msg": "changed",
        "collection": "user",
        "fields": {"kind": "user.administrator.set_up"},
        "seq": 4,
        "term": 2,
    }


def test_an_item_that_went_away_has_an_id_and_no_fields() -> None:
    bus = Bus(MemoryLog({}))
    session, _ = listener(bus, "core.get_jobs")
    bus.publish("core.get_jobs", msg="removed", id=4)
    assert heard(session)[0]["params"] == {"msg": "removed", "collection": "core.get_jobs", "id": 4, "seq": 0}


def test_a_client_that_left_is_told_nothing() -> None:
    bus = Bus(MemoryLog({}))
    session, woken = listener(bus, "user")
    bus.detach(session)
    bus.publish("user")
    assert (heard(session), woken) == ([], [])


def test_an_ended_source_is_told_to_its_subscribers() -> None:
    bus = Bus(MemoryLog({}))
    session, woken = listener(bus, "user")
    bus.end("user")
    assert heard(session)[0]["params"] == {"collection": "user", "error": None}
    assert woken == [1]
    bus.publish("user")
    assert len(session.outbox) == 1
