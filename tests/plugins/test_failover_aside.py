"""The methods of failover.quarantine, with tails in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import effects, quarantine
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import configuration, vip
from middlewared_plugins.network import plugin as network

from middlewared.engine.duties import DutyContext
from middlewared.engine.peer import Questions
from middlewared.engine.standin import dispatcher
from middlewared.kernel.errors import CallFailed, ConfigBehind
from middlewared.kernel.event import START, Event, Record, Stamp, seal
from middlewared.kernel.facts import Vip
from middlewared.kernel.tail import Page, Tail, described
from middlewared.kernel.tenure import TermBegan
from tests.plugins.client import Client
from tests.plugins.view import MemoryView

EVENTS: tuple[Event, ...] = (
    TermBegan(owner="A", reason="", prev_last_seq=0, in_sync=(), adopted=0),
    configuration.Updated(domain="lost.example"),
    vip.Updated(vip=Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")),
    configuration.Updated(nameserver1="10.0.0.1"),
    quarantine.Discarded(id="A-1", reason="x"),
)


def records(*events: Event) -> list[Record]:
    at, made = START, list[Record]()
    for event in events:
        stamp = Stamp(term=2, origin="A", actor="eva@10.0.0.5:1", request_id="r", wall_ns=5_000_000)
        made.append(seal(event, at, stamp))
        at = made[-1].position
    return made


TAIL = Tail(node="A", digest="ab" * 32, first=1, last=5, n=5, at_ns=9_000_000, answered=3)
THEIRS = msgspec.structs.replace(TAIL, node="B", digest="cd" * 32)


class World:
    """A controller with one tail of its own; `admin` may do everything."""

    def __init__(self) -> None:
        self.api, self.engine, _ = dispatcher(failover, network)
        self.tail = self.engine.set_aside.put(TAIL, records(*EVENTS))
        self.admin = Client(self.api, "FULL_ADMIN")
        self.admin.session.options["legacy_jobs"] = False

    async def call(self, method: str, *params: object) -> Any:
        return await self.admin.call(f"failover.quarantine.{method}", *params)

    async def do_duty(self) -> None:
        (duty,) = (duty for duty in failover.duties if duty.name == "note quarantine")
        await duty.run(DutyContext(self.engine, self.engine))

    def noted(self) -> list[quarantine.Entry]:
        return list(self.engine.state(quarantine.NOUN).entries)

    def peer_has(self, *events: Event) -> Tail:
        """The other controller has a tail too, of these events."""
        tail = described(THEIRS, records(*events))
        self.engine.peer["failover.quarantine.digests"] = [tail.digest]
        self.engine.peer["failover.quarantine.tail"] = tail
        self.engine.peer["failover.quarantine.page"] = Page(tuple(records(*events)), None)
        return tail


@pytest.fixture
def world() -> World:
    return World()


# What both know


async def test_the_owner_notes_its_own_tails_and_the_others_once(world: World) -> None:
    theirs = world.peer_has(EVENTS[1])
    await world.do_duty()
    await world.do_duty()
    assert [entry.tail for entry in world.noted()] == [world.tail, theirs]
    assert [(actor, origin) for _, actor, origin, _ in world.engine.executed] == [("middlewared", "A")] * 2


async def test_with_the_other_one_away_its_own_are_noted(world: World) -> None:
    await world.do_duty()
    assert [entry.tail for entry in world.noted()] == [world.tail]


async def test_before_the_log_can_say_it_nothing_is_noted_but_it_is_listed_and_compared(world: World) -> None:
    world.engine.facts_now = msgspec.structs.replace(world.engine.facts_now, log_format=1)
    await world.do_duty()
    assert world.noted() == []
    (listed,) = await world.call("list")
    assert (listed["id"], listed["noted"], listed["state"]) == (TAIL.id, False, "open")
    assert (await world.call("diff", TAIL.id))["total"] > 0
    assert "upgrade.finalize" in (await world.call("discard", TAIL.id, "no use"))["reason"]


async def test_a_listed_tail_tells_what_it_is(world: World) -> None:
    await world.do_duty()
    (listed,) = await Client(world.api, "FAILOVER_READ").call("failover.quarantine.list")
    assert listed == {
        "id": "A-abababababababab",
        "node": "A",
        "state": "open",
        "first": 1,
        "last": 5,
        "count": 5,
        "answered": 3,
        "terms": [2],
        "kinds": {
            "term.begin": 1,
            "network.configuration.updated": 2,
            "network.vip.updated": 1,
            "failover.quarantine.discarded": 1,
        },
        "actors": ["eva@10.0.0.5:1"],
        "at": {"$date": 9},
        "since": {"$date": 5},
        "until": {"$date": 5},
        "digest": "ab" * 32,
        "noted": True,
        "reason": "",
        "result": None,
    }


# Diff


async def test_a_diff_is_told_in_pages(world: World) -> None:
    whole = await world.call("diff", TAIL.id)
    assert [(row["table"], row["field"]) for row in whole["rows"]] == [
        ("network_configuration", "domain"),
        ("network_configuration", "nameserver1"),
        ("network_vip", "address"),
        ("network_vip", "prefix"),
        ("network_vip", "interface"),
    ]
    assert (whole["total"], whole["conflicts"]) == (5, 0)
    page = await world.call("diff", TAIL.id, {"offset": 3, "limit": 1})
    assert (page["total"], page["rows"]) == (5, whole["rows"][3:4])
    assert (await world.call("diff", TAIL.id, {"limit": 0}))["extra"][0][0] == "options.limit"


async def test_the_tail_of_the_other_controller_is_compared_here(world: World) -> None:
    tail = world.peer_has(EVENTS[1])
    told = await world.call("diff", tail.id)
    assert [(row["field"], row["quarantined"]) for row in told["rows"]] == [("domain", "lost.example")]
    assert ("failover.quarantine.page", tail.digest, 0) in world.engine.asked


async def test_a_tail_that_is_not_there_is_not_compared(world: World) -> None:
    assert (await world.call("diff", "B-0"))["extra"] == [["id", "there is no tail B-0 in quarantine", 2]]


# Reapply


async def test_each_event_is_asked_for_again_under_an_id_of_its_own_and_what_became_of_it_is_counted(
    world: World,
) -> None:
    await world.admin.call("network.configuration.update", {"nameserver1": "10.0.0.1"})
    result = await world.call("reapply", TAIL.id)
    assert result == {"applied": 2, "unchanged": 1, "refused": 0, "not_reapplicable": 1, "refusals": []}
    assert world.engine.state(configuration.NOUN).domain == "lost.example"
    assert world.engine.state(vip.NOUN).vip == Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")
    ids = [request_id for command, _, _, request_id in world.engine.executed if command.noun != "failover.quarantine"]
    assert len(set(ids)) == len(ids) == 4
    (entry,) = world.noted()
    assert (entry.fate, entry.result) == ("reapplied", msgspec.convert(result, quarantine.Result))


async def test_a_second_time_nothing_is_done_and_the_same_is_told(world: World) -> None:
    first = await world.call("reapply", TAIL.id)
    await world.admin.call("network.configuration.update", {"domain": "later.example"})
    done = len(world.engine.executed)
    assert await world.call("reapply", TAIL.id) == first
    assert len(world.engine.executed) == done
    assert world.engine.state(configuration.NOUN).domain == "later.example"


async def test_what_is_refused_today_is_told_with_its_seq_and_the_rest_is_done(world: World) -> None:
    tail = world.peer_has(configuration.Updated(domain="not a domain"), EVENTS[3])
    result = await world.call("reapply", tail.id)
    assert (result["applied"], result["refused"]) == (1, 1)
    assert result["refusals"] == [{"seq": 1, "reason": "domain: 'not a domain' is not a domain name"}]


async def test_a_controller_that_stops_writing_ends_it_and_a_retry_asks_under_the_same_ids(world: World) -> None:
    await world.do_duty()
    execute = world.engine.execute
    asked: list[str] = []

    async def behind(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["request_id"])
        if len(asked) == 2:
            raise ConfigBehind("the log here is behind")
        return await execute(*args, **kwargs)

    world.engine.execute = behind  # type: ignore[method-assign]
    assert (await world.call("reapply", TAIL.id))["errname"] == "EHAUNAVAILABLE"
    assert world.noted()[0].fate == "open"
    tried, asked[:] = list(asked), ["", "", ""]
    await world.call("reapply", TAIL.id)
    assert asked[3 : 3 + len(tried)] == tried
    assert world.noted()[0].fate == "reapplied"


async def test_reapplying_and_discarding_need_the_role_that_writes(world: World) -> None:
    reader = Client(world.api, "FAILOVER_READ")
    assert (await reader.call("failover.quarantine.reapply", TAIL.id))["errname"] == "EACCES"
    assert (await reader.call("failover.quarantine.discard", TAIL.id, "x"))["errname"] == "EACCES"


# Discard


async def test_a_discarded_tail_is_gone_only_when_that_is_committed_and_stays_listed(world: World) -> None:
    await world.call("discard", TAIL.id, "of no use")
    assert [tail.digest for tail in world.engine.set_aside.tails()] == [TAIL.digest]
    view = MemoryView()
    view.aside = world.engine.aside
    view.set(quarantine.NOUN, world.engine.state(quarantine.NOUN))
    await effects.settle_quarantine(view)
    assert world.engine.set_aside.tails() == []
    (listed,) = await world.call("list")
    assert (listed["state"], listed["reason"], listed["noted"]) == ("discarded", "of no use", True)
    assert (await world.call("diff", TAIL.id))["errname"] == "ENOENT"
    assert "was discarded" in (await world.call("reapply", TAIL.id))["reason"]


async def test_what_was_reapplied_is_decided_about_and_its_file_stays(world: World) -> None:
    await world.call("reapply", TAIL.id)
    view = MemoryView()
    view.aside = world.engine.aside
    view.set(quarantine.NOUN, world.engine.state(quarantine.NOUN))
    await effects.settle_quarantine(view)
    assert world.engine.set_aside.settled == (frozenset({TAIL.digest}), frozenset())
    assert world.engine.set_aside.tails() == [TAIL]


async def test_without_a_reason_nothing_is_discarded(world: World) -> None:
    assert (await world.call("discard", TAIL.id, " "))["extra"][0][0] == "reason"
    assert world.noted()[0].fate == "open"


# What the other controller asks


async def test_the_other_controller_learns_what_lies_here(world: World) -> None:
    answer = Questions(world.api)
    assert await answer("failover.quarantine.digests", ()) == [TAIL.digest]
    assert await answer("failover.quarantine.tail", (TAIL.digest,)) == world.tail
    page = await answer("failover.quarantine.page", (TAIL.digest, 0))
    assert isinstance(page, Page)
    assert [record.seq for record in page.records] == [1, 2]
    with pytest.raises(CallFailed, match="no tail"):
        await answer("failover.quarantine.tail", ("00",))
