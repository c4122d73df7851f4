from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest

from middlewared.engine.alerts import Alerts
from middlewared.engine.controller import Build, Pairing, ThisController
from middlewared.engine.peer import Peer
from middlewared.engine.pool_watch import PoolWatch
from middlewared.engine.reconcile import Reconciler
from middlewared.engine.standin_parts import MemorySecrets, MemorySuccession, MemoryTrail, MemoryUpkeep, NoDisks
from middlewared.engine.tenure import Tenure
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.outlook import Side
from middlewared.plugin import AlertSource, Effect, View
from middlewared.protocol import hub
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.peer_calls import FEATURE, Answer, Ask
from middlewared.shell.clock import SystemClock
from tests.engine.controllers import Controller, until
from tests.engine.pair import Pair
from tests.engine.standing import standing
from tests.plugins.view import MemoryView

BUILD = Build(node="A", version="1.2.3", boot_id="b", paired=True, voters=3)
VIP = hub.CarpState(vhid=7, address="10.0.0.9", state="MASTER", since=1.0, rivals=0, rejected=0, why="owner of term 1")
VOTERS = tuple(hub.VoterState(name=n, reachable=n != "2", term=1, owner="A") for n in ("0", "1", "2"))


async def light(_: View) -> None:
    return None


class World:
    """A controller, what fenced says to it, and what it asked for."""

    def __init__(
        self,
        controller: Controller,
        build: Build = BUILD,
        single_term: int | None = None,
        sources: Sequence[AlertSource] = (),
    ) -> None:
        self.controller = controller
        self.forced = 0
        self.joined: list[tuple[str, str, bool]] = []
        self.tenure = Tenure(single_term, lambda: None, lambda: ("http://10.0.0.9",), SystemClock())
        self.tenure.attach(controller.replicator)
        self.reconciler = Reconciler([Effect(name="light", watches=(), reconcile=light)], MemoryView())
        self.peer = Peer(SystemClock())
        self.roles = MemorySuccession()
        self.this = ThisController(
            build,
            SystemClock(),
            self.tenure,
            controller.replicator,
            controller.state,
            reconciler=lambda: self.reconciler,
            vips=lambda: (VIP,),
            aside=controller.aside,
            succession=self.roles,
            force=self.force,
            configured_pools=lambda: (),
            imported_pools=lambda: (),
            heard=lambda: None,
            pairing=Pairing(open=self.open, join=self.join),
            alerts=Alerts(build.node, sources),
            peer=self.peer,
            upkeep=MemoryUpkeep(),
            audit=MemoryTrail(),
            secrets=MemorySecrets(),
            disks=NoDisks(),
            pools=None,
            pool_watch=PoolWatch(None, NoDisks(), lambda _: None),
        )

    def force(self) -> None:
        self.forced += 1

    async def open(self) -> str:
        return "CODE"

    async def join(self, code: str, host: str, discard_mine: bool) -> None:
        self.joined.append((code, host, discard_mine))


async def test_both_controllers_of_a_pair_say_what_they_are_and_where_the_logs_stand(pair: Pair) -> None:
    a, b = World(pair.a), World(pair.b, msgspec.structs.replace(BUILD, node="B"))
    b.tenure.heard(standing("STANDBY", 1, pair.disk.register.record))
    await pair.a.update(domain="lab.example")
    await pair.equal()
    await until(lambda: a.this.facts().peer_applied_seq == 2)
    facts = a.this.facts()
    assert (facts.status, facts.term, facts.in_sync, facts.paired) == ("MASTER", 1, ("A", "B"), True)
    assert (facts.last_seq, facts.commit_seq, facts.applied_seq, facts.peer_durable_seq) == (2, 2, 2, 2)
    assert (facts.peer_connected, facts.peer_heard, facts.quarantined) == (True, False, 0)
    assert facts.vip_states == {"10.0.0.9": "MASTER"}
    assert facts.vips == (VIP,)
    facts = b.this.facts()
    assert (facts.status, facts.term, facts.in_sync, facts.why) == ("BACKUP", 1, ("A", "B"), "because")
    assert (facts.last_seq, facts.applied_seq, facts.peer_durable_seq) == (2, 2, 0)


async def test_a_controller_without_a_role_is_electing(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        facts = World(pair.a).this.facts()
        assert (facts.status, facts.why, facts.since_s) == ("ELECTING", "fenced has not been heard yet", 0.0)
        assert (facts.disks_ok, facts.disks_total, facts.in_sync) == (0, 3, ())


async def test_an_owner_is_electing_until_the_first_record_of_its_term_is_committed(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        world = World(pair.a)
        pair.disk.writable = False
        await pair.a.own(pair.disk.claim("A"), forced=True)
        await until(lambda: pair.a.log.head().seq == 1)
        assert world.this.status() == "ELECTING"
        pair.disk.writable = True
        await pair.a.opened()
        assert world.this.status() == "MASTER"


async def test_a_controller_that_was_never_paired_is_single_and_cannot_be_forced(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        world = World(pair.a, msgspec.structs.replace(BUILD, paired=False))
        await pair.a.own(1, alone=True)
        await pair.a.opened()
        assert world.this.status() == "SINGLE"
        with pytest.raises(CallFailed, match="never paired") as error:
            await world.this.force_master()
        assert error.value.errno == errno.EINVAL
        assert world.forced == 0


async def test_an_owner_that_was_left_behind_is_master_and_says_why_it_writes_nothing(pair: Pair) -> None:
    pair.wire.cut()
    await pair.a.update(domain="lab.example")
    await pair.take_over(pair.b)
    facts = World(pair.b).this.facts()
    assert facts.status == "MASTER"
    assert facts.behind == "answered writes are known to controller A alone; the log here ends at seq 1"


async def test_the_other_controller_says_why_a_halted_one_refuses_it_until_it_greets_again(pair: Pair) -> None:
    why = "two logs differ at seq 1"
    pair.b.replicator.feed(values.Broken(why))
    await until(lambda: World(pair.a).this.facts().peer_refused == why)
    assert not World(pair.a).this.facts().peer_connected
    pair.wire.connect()
    await until(lambda: not pair.wire.up)
    assert World(pair.a).this.facts().peer_refused == why
    await pair.restart("B")
    pair.b.stand(1)
    pair.wire.connect()
    await until(lambda: World(pair.a).this.facts().peer_connected)
    assert World(pair.a).this.facts().peer_refused is None


async def test_a_controller_tells_its_own_alerts(pair: Pair) -> None:
    source = AlertSource(klass="Halted", level="CRITICAL", title="halted", holds=lambda facts: facts.why or None)
    world = World(pair.a, sources=[source])
    pair.a.replicator.feed(values.Broken("two logs differ"))
    (alert,) = world.this.alerts()
    assert (alert.id, alert.formatted, alert.dismissed) == ("Halted-A", "two logs differ", False)
    world.this.dismiss_alert("Halted-A", dismissed=True)
    assert world.this.alerts()[0].dismissed


async def test_alerts_are_judged_by_what_the_other_controller_shows_as_well(pair: Pair) -> None:
    sources = [
        AlertSource(
            klass="Flapping", level="WARNING", title="", holds=lambda facts: "too often" if facts.flapping else None
        ),
        AlertSource(
            klass="Differs",
            level="WARNING",
            title="",
            holds=lambda facts: {reason.code: reason.text for reason in facts.disagreements},
        ),
    ]
    world = World(pair.b, msgspec.structs.replace(BUILD, node="B"), sources=sources)
    there = Peer(SystemClock())

    async def answer(method: str, _: Sequence[object]) -> Side:
        return Side(node="A", version="1", status="MASTER", vips={VIP.address: "MASTER"})

    def to(end: Peer) -> Callable[[Ask | Answer], None]:
        return lambda frame: end.got(cast(Ask | Answer, frames.decode(frames.encode(frame))))

    there.answer_by(answer)
    world.peer.line_up(to(there), frozenset({FEATURE}))
    there.line_up(to(world.peer), frozenset({FEATURE}))
    world.tenure.heard(msgspec.structs.replace(standing("STANDBY", 1), flapping=True))
    assert [alert.id for alert in world.this.alerts()] == ["Flapping-B"]
    await world.this.pair_outlook.look()
    assert [alert.id for alert in world.this.alerts()] == ["Flapping-B", "Differs-B-DISAGREE_VIP"]
    assert world.this.facts().disagreements == ()


async def test_a_halted_controller_is_in_error_and_says_why(pair: Pair) -> None:
    pair.a.replicator.feed(values.Broken("two logs differ at seq 1"))
    facts = World(pair.a).this.facts()
    assert (facts.status, facts.why, facts.halted) == ("ERROR", "two logs differ at seq 1", "two logs differ at seq 1")


async def test_a_controller_that_could_not_take_over_is_in_error_and_has_not_halted(pair: Pair) -> None:
    world = World(pair.a)
    world.tenure.heard(msgspec.structs.replace(standing("STANDBY", 1), failed="import: tank: no such pool"))
    facts = world.this.facts()
    assert (facts.status, facts.failed, facts.halted) == ("ERROR", "import: tank: no such pool", None)


async def test_disks_and_signs_of_the_peer_are_as_fenced_saw_them(tmp_path: Path) -> None:
    async with Pair(tmp_path) as pair:
        world = World(pair.a)
        now = SystemClock().boottime()
        said = msgspec.structs.replace(standing("STANDBY", 1), voters=VOTERS, since=now - 5)
        world.tenure.heard(msgspec.structs.replace(said, peer_interlink_at=now - 2, peer_advert_at=None))
        facts = world.this.facts()
        assert (facts.disks_ok, facts.disks_total, facts.peer_heard) == (2, 3, False)
        assert 5 <= facts.since_s < 6
        world.tenure.heard(msgspec.structs.replace(said, peer_interlink_at=now, peer_advert_at=None))
        assert world.this.facts().peer_heard
        heard = msgspec.structs.replace(said, peer_interlink_at=now - 1, said_at=now, peer_voting=0)
        world.tenure.heard(heard)
        assert world.this.facts().peer_heard
        assert world.this.facts().peer_last_heard_ms == {"interlink": 1000, "adverts": None, "disks": None}
        world.tenure.heard(msgspec.structs.replace(heard, peer_voting=None))
        assert not world.this.facts().peer_heard


async def test_who_hands_over_because_an_operator_asked_is_leaving_as_one_whom_fenced_sends(pair: Pair) -> None:
    world = World(pair.a)
    world.tenure.heard(standing("OWNER", 2))
    assert world.this.facts().leaving is None
    world.roles.leaving = "asked by eva"
    assert world.this.facts().leaving == "asked by eva"
    assert world.this.pair_outlook.side().changing == "hands over"


async def test_effects_are_told_with_what_keeps_them(pair: Pair) -> None:
    world = World(pair.a)
    world.reconciler.start()
    await until(lambda: world.this.facts().effects == {"light": None})
    await world.reconciler.close()


async def test_forcing_an_owner_that_serves_does_nothing(pair: Pair) -> None:
    world = World(pair.a)
    await world.this.force_master()
    assert world.forced == 0


async def test_forcing_a_standby_returns_when_it_serves_in_the_new_term(pair: Pair) -> None:
    world = World(pair.b)
    pair.wire.cut()
    world.tenure.heard(standing("STANDBY", 1))
    work = asyncio.create_task(world.this.force_master())
    await until(lambda: world.forced == 1)
    assert not work.done()
    world.tenure.heard(standing("OWNER", pair.disk.claim("B"), pair.disk.register.record))
    async with asyncio.timeout(5):
        await work
    assert (world.this.status(), world.this.facts().term) == ("MASTER", 2)


async def test_pairing_is_handed_on(pair: Pair) -> None:
    world = World(pair.a)
    assert await world.this.open_pairing() == "CODE"
    await world.this.join("CODE", "10.0.0.2", discard_mine=True)
    assert world.joined == [("CODE", "10.0.0.2", True)]
