from __future__ import annotations

import json
from itertools import count

import pytest
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.core import plugin as core

from middlewared.engine.bus import Bus
from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import dispatcher
from middlewared.protocol.session import Session


@pytest.fixture
def api() -> tuple[Dispatcher, Bus]:
    made, _, bus = dispatcher(core, auth)
    return made, bus


def session(*, local_root: bool = True) -> Session:
    ids = count()
    origin = "unix:0" if local_root else "10.0.0.9:5"
    return Session(id="s", origin=origin, local_root=local_root, new_id=lambda: f"id{next(ids)}")


async def call(api: tuple[Dispatcher, Bus], client: Session, method: str, *params: object) -> object:
    """The result; where there is none, the error's code and the errno in its data."""
    text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
    answer = await api[0].answer(client, text, lambda: None)
    assert answer is not None
    reply = json.loads(answer)
    return reply["result"] if "result" in reply else (reply["error"]["code"], reply["error"]["data"]["error"])


async def test_anyone_may_ping(api: tuple[Dispatcher, Bus]) -> None:
    assert await call(api, session(local_root=False), "core.ping") == "pong"


async def test_options_that_are_left_out_stay_and_all_are_returned(api: tuple[Dispatcher, Bus]) -> None:
    client = session(local_root=False)
    told = await call(api, client, "core.set_options", {"legacy_jobs": False})
    options = {"legacy_jobs": False, "private_methods": False, "py_exceptions": False, "durability": False}
    assert told == {**options, "remembers_requests": True}
    told = await call(api, client, "core.set_options", {"durability": True})
    assert told == {**options, "durability": True, "remembers_requests": True}


async def test_pickled_errors_are_never_promised(api: tuple[Dispatcher, Bus]) -> None:
    told = await call(api, session(), "core.set_options", {"py_exceptions": True})
    assert isinstance(told, dict)
    assert told["py_exceptions"] is False


async def test_an_option_that_does_not_exist_is_refused(api: tuple[Dispatcher, Bus]) -> None:
    assert await call(api, session(), "core.set_options", {"turbo": True}) == (-32602, 22)


async def test_a_subscription_is_heard_until_it_is_ended(api: tuple[Dispatcher, Bus]) -> None:
    client = session()
    api[1].attach(client, lambda: None)
    subscription = await call(api, client, "core.subscribe", "user")
    api[1].publish("user")
    assert await call(api, client, "core.unsubscribe", subscription) is None
    api[1].publish("user")
    assert len(client.outbox) == 1
    assert await call(api, client, "core.unsubscribe", subscription) == (-32602, 22)


async def test_without_a_login_only_the_sign_in_pages_collections_may_be_heard(api: tuple[Dispatcher, Bus]) -> None:
    client = session(local_root=False)
    assert await call(api, client, "core.subscribe", "core.get_jobs") == (-32001, 207)
    assert await call(api, client, "core.subscribe", "*") == (-32001, 207)
    assert await call(api, client, "core.subscribe", "failover.status") == (-32602, 22)  # no failover plugin here


async def test_a_collection_that_does_not_exist_is_refused(api: tuple[Dispatcher, Bus]) -> None:
    assert await call(api, session(), "core.subscribe", "nope") == (-32602, 22)


async def test_a_subscription_since_a_record_answers_its_id_or_where_it_begins(api: tuple[Dispatcher, Bus]) -> None:
    client = session()
    api[1].attach(client, lambda: None)
    assert await call(api, client, "core.subscribe", "user", {"since": 0}) == "id0"
    told = await call(api, client, "core.subscribe", "*", {"position": True})
    assert told == {"id": "id1", "seq": 0, "term": 0}


@pytest.mark.parametrize("options", [{"since": -1}, {"since": 1}, {"since": "0"}, {"since": None}, {"until": 4}])
async def test_a_since_that_is_no_record_is_refused(api: tuple[Dispatcher, Bus], options: dict[str, object]) -> None:
    assert await call(api, session(), "core.subscribe", "user", options) == (-32602, 22)


async def test_there_are_no_jobs_however_they_are_asked_for(api: tuple[Dispatcher, Bus]) -> None:
    assert await call(api, session(), "core.get_jobs") == []
    assert await call(api, session(), "core.get_jobs", [["id", "=", 4]], {"limit": 1}) == []
    assert await call(api, session(), "core.get_jobs", [], {"count": True}) == 0
    assert await call(api, session(), "core.get_jobs", [], {"get": True}) == (-32001, 2)


async def test_every_method_describes_itself_and_its_parameters(api: tuple[Dispatcher, Bus]) -> None:
    told = await call(api, session(), "core.get_methods")
    assert isinstance(told, dict)
    assert set(told) == set(api[0].registry.methods)
    assert [name for name, method in told.items() if not method["description"]] == []
    assert told["core.set_options"]["params"][0]["name"] == "options"
    assert "legacy_jobs" in json.dumps(told["core.set_options"]["params"][0]["schema"])
    assert told["user.setup_local_administrator"]["local_only"] is True


async def test_every_collection_is_told(api: tuple[Dispatcher, Bus]) -> None:
    assert await call(api, session(), "core.get_events") == {
        "core.get_jobs": {"public": False, "query": None, "field": None},
        "user": {"public": False, "query": None, "field": None},
    }
