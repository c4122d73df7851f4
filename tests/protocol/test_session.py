from __future__ import annotations

import json
from itertools import count

import pytest

from middlewared.kernel.errors import CallFailed
from middlewared.protocol.session import SUBSCRIPTION_LIMIT, Session
from middlewared.protocol.subscription import OUTBOX_LIMIT


def session(*, local_root: bool = False) -> Session:
    ids = count()
    return Session(id="s", origin="10.0.0.9:5", local_root=local_root, new_id=lambda: f"id{next(ids)}")


def test_a_new_client_is_nobody_and_may_do_nothing_that_wants_a_role() -> None:
    client = session()
    assert (client.username, client.may(("X",)), client.may(())) == (None, False, True)
    assert client.options["legacy_jobs"]


def test_root_of_the_unix_socket_is_root_from_the_start_and_after_a_logout() -> None:
    client = session(local_root=True)
    assert (client.username, client.may(("X",))) == ("root", True)
    client.log_in("eva", frozenset())
    assert (client.username, client.may(("X",))) == ("eva", False)
    client.log_out()
    assert (client.username, client.may(("X",))) == ("root", True)


def test_one_of_the_roles_is_enough_and_full_admin_is_all_of_them() -> None:
    client = session()
    client.log_in("eva", frozenset({"B"}))
    assert (client.may(("A", "B")), client.may(("A",))) == (True, False)
    client.log_in("root", frozenset({"FULL_ADMIN"}))
    assert client.may(("A",))


def test_a_client_hears_what_it_subscribed_to_and_nothing_else() -> None:
    client = session()
    subscription = client.subscribe("user").id
    assert (client.hears("user"), client.hears("pool")) == (True, False)
    assert client.unsubscribe(subscription)
    assert not client.unsubscribe(subscription)
    assert not client.hears("user")


def test_a_star_hears_everything() -> None:
    client = session()
    client.subscribe("*")
    assert client.hears("pool")


def test_a_logout_ends_subscriptions_and_what_waits() -> None:
    client = session()
    client.subscribe("user")
    client.notify("user", b"x")
    client.log_out()
    assert (client.hears("user"), list(client.outbox)) == (False, [])


@pytest.mark.parametrize("name", ["user", "*"])
def test_a_client_that_falls_behind_is_told_and_hears_no_more(name: str) -> None:
    client = session()
    client.subscribe(name)
    for i in range(OUTBOX_LIMIT + 1):
        client.notify("user", b"%d" % i)
    assert len(client.outbox) == OUTBOX_LIMIT + 1
    assert client.outbox[OUTBOX_LIMIT - 1] == b"%d" % (OUTBOX_LIMIT - 1)
    last = json.loads(client.outbox[-1])
    assert (last["method"], last["params"]["collection"]) == ("notify_unsubscribed", name)
    assert last["params"]["error"]["errname"] == "ENOBUFS"
    assert not client.hears("user")


def test_the_outbox_cannot_grow_beyond_its_bounds() -> None:
    client = session()
    for i in range(SUBSCRIPTION_LIMIT):
        client.subscribe(f"c{i}")
    with pytest.raises(CallFailed, match="100 subscriptions"):
        client.subscribe("one more")
    for i in range(SUBSCRIPTION_LIMIT):
        for _ in range(2 * OUTBOX_LIMIT // SUBSCRIPTION_LIMIT):
            client.notify(f"c{i}", b"x")
    assert len(client.outbox) <= OUTBOX_LIMIT + SUBSCRIPTION_LIMIT


def test_an_ended_source_is_told_once_however_often_it_was_subscribed_to() -> None:
    client = session()
    client.subscribe("user")
    client.subscribe("user")
    client.end("user", None)
    client.end("user", None)
    assert [json.loads(frame)["params"] for frame in client.outbox] == [{"collection": "user", "error": None}]
