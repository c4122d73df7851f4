"""Whether failover is available, from memory: what the other controller told last, and since when each reason holds."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from middlewared.engine.outlook import PairOutlook
from middlewared.engine.standin import FACTS
from middlewared.kernel.errors import CallFailed, NoRole, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.outlook import Configured, Side
from middlewared.plugin import ControllerFacts
from middlewared.protocol import hub
from middlewared.protocol.failover_view import View, seen, shown
from tests.hand_clock import HandClock
from tests.protocol.failover_views import NOW, owner, view

HEALTHY = msgspec.structs.replace(
    FACTS, paired=True, peer_connected=True, peer_heard=True, in_sync=("A", "B"), disks_ok=3, disks_total=3
)
WANTED = Configured(disabled=False, vips=("192.0.2.10",))


class One:
    """One controller's outlook. view: what its fenced decided upon. there: the other one, None while it is away."""

    def __init__(self, node: Node, view: View | None, facts: ControllerFacts) -> None:
        self.facts = facts
        self.view = view
        self.there: One | None = None
        self.asked = 0
        self.outlook = PairOutlook(node, HandClock(NOW), lambda: self.facts, self._heard, tuple, tuple, self._ask)

    def _heard(self) -> hub.Seen | None:
        return None if self.view is None else hub.Seen(at=NOW, view=shown(self.view))

    async def _ask(self, method: str, timeout_s: float) -> object:
        self.asked += 1
        if self.there is None:
            raise CallFailed(107, "The other controller is away")
        there = self.there.outlook
        return msgspec.to_builtins(there.side() if method == "failover.side" else there.shown())

    def codes(self) -> list[tuple[str, Node | None]]:
        return [(reason.code, reason.node) for reason in self.outlook.availability(WANTED).reasons]

    def change(self, **changes: object) -> None:
        self.facts = msgspec.structs.replace(self.facts, **changes)


@pytest.fixture
async def pair() -> tuple[One, One]:
    a = One("A", owner(), HEALTHY)
    b = One("B", view(), msgspec.structs.replace(HEALTHY, status="BACKUP"))
    a.there, b.there = b, a
    await asyncio.gather(a.outlook.look(), b.outlook.look())
    return a, b


async def test_what_is_wrong_with_the_other_one_is_known_from_what_it_told_last(pair: tuple[One, One]) -> None:
    a, b = pair
    assert a.codes() == b.codes() == []
    b.view = view(fault="a pool lacks its disks", moves=(NOW - 3, NOW - 2, NOW - 1))
    b.change(pool_fault="a pool lacks its disks")
    assert a.codes() == []
    await a.outlook.look()
    asked = a.asked
    assert a.codes() == [("POOL_FAULT", "B"), ("FLAPPING", "B")]
    assert a.asked == asked


async def test_what_does_not_fit_together_is_told_apart_while_the_line_is_open(pair: tuple[One, One]) -> None:
    a, b = pair
    a.change(vip_states={"192.0.2.10": "MASTER"}, disks=("S0", "S1"))
    b.change(vip_states={"192.0.2.10": "MASTER"}, disks=("S0",), pool_fault="tank is SUSPENDED")
    assert a.outlook.disagreements() == ()
    await a.outlook.look()
    assert [reason.code for reason in a.outlook.disagreements()] == ["DISAGREE_VIP", "MISMATCH_DISKS"]
    a.change(leaving="a network is lost")
    assert [reason.code for reason in a.outlook.disagreements()] == ["MISMATCH_DISKS"]
    a.change(peer_connected=False)
    assert a.outlook.disagreements() == ()


async def test_what_it_told_before_its_line_closed_is_not_believed(pair: tuple[One, One]) -> None:
    a, b = pair
    b.change(failed="tank cannot be imported")
    await a.outlook.look()
    assert a.codes() == [("PROMOTION_FAILED", "B")]
    a.change(peer_connected=False)
    assert a.codes() == [("NO_SYSTEM_READY", "B")]
    a.change(peer_connected=True)
    a.there = None
    await a.outlook.look()
    assert a.codes() == []


async def test_a_reason_has_the_time_at_which_it_was_first_seen_to_hold(pair: tuple[One, One]) -> None:
    a, _ = pair
    a.change(wall_ns=5_000_000, peer_heard=False)
    a.outlook.availability(WANTED)
    a.change(wall_ns=9_000_000)
    (reason,) = a.outlook.availability(WANTED).reasons
    assert (reason.code, reason.since) == ("NO_PONG", {"$date": 5})
    a.change(peer_heard=True)
    assert a.codes() == []
    a.change(wall_ns=11_000_000, peer_heard=False)
    assert a.outlook.availability(WANTED).reasons[0].since == {"$date": 11}


async def test_each_explains_itself_and_both_views_go_into_a_dry_run(pair: tuple[One, One]) -> None:
    a, b = pair
    assert (a.outlook.explain().rule, b.outlook.explain().rule) == ("OWNS", "PEER_OWNS")
    forecast = await a.outlook.dry_run("i_die")
    assert (forecast.after, forecast.peer_known) == ("B", True)
    a.there = None
    assert not (await a.outlook.dry_run("i_die")).peer_known
    with pytest.raises(Refused, match="peer_freezes"):
        await a.outlook.dry_run("earthquake")


async def test_before_fenced_was_heard_nothing_is_explained(pair: tuple[One, One]) -> None:
    a, _ = pair
    a.view = None
    with pytest.raises(NoRole):
        a.outlook.explain()
    assert a.outlook.side() == Side(
        node="A", version=HEALTHY.version, status="MASTER", voters_ok=3, voters=3, disks=HEALTHY.disks
    )


def test_the_cluster_s_key_is_not_shown() -> None:
    told = seen(shown(owner()))
    assert told.settings is not None and told.settings.key == b""
    assert msgspec.structs.replace(told.settings, key=b"k") == owner().settings
