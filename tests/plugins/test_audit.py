from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest
from middlewared_plugins.audit import plugin as audit
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.core import plugin as core
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network

from middlewared.engine.peer import Questions
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.audit import Event, Kept, Note
from middlewared.kernel.errors import NotActive
from middlewared.protocol.session import Session

MS = 1_000_000


def event(seq: int, at_ms: int) -> Event:
    return Event(
        seq=seq,
        at_ns=at_ms * MS,
        node="A",
        who="eva",
        origin="10.0.0.9:5",
        method="network.configuration.update",
        request_id="r",
        event="network.configuration.updated",
        before={"domain": "a"},
        after={"domain": "b"},
    )


class World:
    def __init__(self, *, paired: bool = True) -> None:
        self.answers, self.engine, _ = dispatcher(core, auth, audit, network, failover)
        assert isinstance(self.engine, MemoryEngine)
        self.engine.facts_now = msgspec.structs.replace(FACTS, paired=paired)
        self.trail = self.engine.trail
        self.root = self.session(local_root=True)

    def session(self, *, local_root: bool = False) -> Session:
        return Session(id="s", origin="10.0.0.9:5", local_root=local_root, new_id=lambda: "id")

    async def call(self, client: Session, method: str, *params: object) -> Any:
        text = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = await self.answers.answer(client, text, lambda: None)
        assert answer is not None
        reply = msgspec.json.decode(answer)
        return reply["result"] if "result" in reply else (reply["error"]["code"], reply["error"].get("data"))

    def there(self, *notes: Note) -> None:
        """What the other controller has noted, newest first."""
        self.engine.peer["audit.rows"] = [Kept(len(notes) - n, note) for n, note in enumerate(notes)]


async def test_the_log_and_both_controllers_notes_are_one_list_newest_first() -> None:
    world = World()
    world.trail.logged = [event(9, 40), event(8, 20)]
    world.trail.notes = [Note(at_ns=30 * MS, kind="login", who="ida", origin="10.0.0.7:1", method="auth.login_ex")]
    world.there(Note(at_ns=35 * MS, kind="refused", errno=30, reason="Controller B is standby"))
    page = await world.call(world.root, "audit.query")
    assert [(e["at"]["$date"], e["node"], e["kind"]) for e in page["entries"]] == [
        (40, "A", "write"),
        (35, "B", "refused"),
        (30, "A", "login"),
        (20, "A", "write"),
    ]
    assert (page["cursor"], page["missing"]) == (None, [])
    assert page["entries"][0] == {
        "at": {"$date": 40},
        "node": "A",
        "kind": "write",
        "user": "eva",
        "origin": "10.0.0.9:5",
        "method": "network.configuration.update",
        "request_id": "r",
        "errno": 0,
        "reason": "",
        "times": 1,
        "seq": 9,
        "event": "network.configuration.updated",
        "before": {"domain": "a"},
        "after": {"domain": "b"},
    }


async def test_page_after_page_shows_everything_once() -> None:
    world = World(paired=False)
    world.trail.logged = [event(n, n * 10) for n in range(9, 0, -1)]
    world.trail.notes = [Note(at_ns=(n * 10 + 5) * MS, kind="login") for n in range(1, 10)]
    seen: list[int] = []
    cursor: object = {}
    while cursor is not None:
        page = await world.call(world.root, "audit.query", {"limit": 4, "cursor": cursor})
        seen += [e["at"]["$date"] for e in page["entries"]]
        cursor = page["cursor"]
    assert seen == sorted([*range(10, 100, 10), *range(15, 105, 10)], reverse=True)


async def test_a_controller_that_is_away_is_named_as_missing() -> None:
    page = await World().call(World().root, "audit.query")
    assert page["missing"] == [{"node": "B", "why": "The other controller is not connected"}]


async def test_only_what_is_needed_is_asked_for() -> None:
    world = World()
    await world.call(world.root, "audit.query", {"kinds": ["write"]})
    await world.call(world.root, "audit.query", {"node": "A"})
    assert world.engine.asked == []
    await world.call(world.root, "audit.query", {"since": {"$date": 5}, "until": 7, "user": "eva", "kinds": ["login"]})
    ((_, wanted, before, limit),) = world.engine.asked
    assert wanted == {
        "since_ns": 5 * MS,
        "until_ns": 7 * MS + 999_999,
        "node": None,
        "user": "eva",
        "method": None,
        "request_id": None,
        "kinds": ("login",),
    }
    assert (before, limit) == (None, 101)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"since": {"date": 1}}, {"until": 2**60}, {"x": 1}])
async def test_a_query_that_makes_no_sense_is_refused(query: dict[str, object]) -> None:
    world = World()
    assert (await world.call(world.root, "audit.query", query))[0] == -32602


async def test_the_other_controller_is_told_this_ones_notes() -> None:
    world = World()
    world.trail.notes = [Note(at_ns=1, kind="login")]
    assert await Questions(world.answers)("audit.rows", [{}, None, 10]) == [Kept(1, world.trail.notes[0])]


async def test_who_may_not_look_is_refused_and_that_is_noted() -> None:
    world, client = World(), World().session()
    client.log_in("eva", frozenset({"NETWORK_READ"}))
    assert (await world.call(client, "audit.query"))[1]["error"] == errno.EACCES
    (note,) = world.trail.notes
    assert (note.kind, note.who, note.origin, note.method) == ("refused", "eva", "10.0.0.9:5", "audit.query")
    assert (note.errno, note.reason) == (errno.EACCES, "audit.query needs one of the roles SYSTEM_AUDIT_READ")


async def test_logins_that_succeed_and_fail_and_logouts_are_noted_and_no_password_is() -> None:
    world, client = World(), World().session()
    await world.call(world.root, "user.setup_local_administrator", "root", "swordfish-1")
    world.trail.notes.clear()
    assert await world.call(client, "auth.login", "root", "swordfish-2") is False
    assert await world.call(client, "auth.login", "root", "swordfish-1") is True
    await world.call(client, "auth.logout")
    assert [(n.kind, n.who, n.method) for n in world.trail.notes] == [
        ("login_failed", "root", "auth.login"),
        ("login", "root", "auth.login"),
        ("logout", "root", "auth.logout"),
    ]
    assert b"swordfish" not in msgspec.json.encode(world.trail.notes)


async def test_what_a_standby_refuses_and_what_is_read_there_is_noted_and_reads_on_the_active_are_not() -> None:
    world = World()
    await world.call(world.root, "network.configuration.config")
    assert world.trail.notes == []
    world.engine.facts_now = msgspec.structs.replace(FACTS, status="BACKUP")
    world.engine.refusal = NotActive("B", ["http://a"])
    await world.call(world.root, "network.configuration.config")
    await world.call(world.root, "network.configuration.update", {"domain": "x.example"})
    await world.call(world.root, "core.ping")
    assert [(n.kind, n.method, n.errno) for n in world.trail.notes] == [
        ("read", "network.configuration.config", 0),
        ("refused", "network.configuration.update", errno.EROFS),
    ]
