"""A standby that cannot read what the owner writes, and the owner of a log that it cannot read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.network import vip

from middlewared.kernel.errors import ConfigBehind
from middlewared.kernel.event import LOG_FORMAT
from middlewared.protocol.replication_frames import Identity
from middlewared.protocol.replication_owner import Phase
from tests.engine.controllers import OLDER, REGISTRY, until
from tests.engine.pair import Pair
from tests.engine.standing import standing
from tests.engine.test_controller import BUILD, World

VIP = vip.Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)
WHY = "seq 2: kind network.vip.updated version 1 is not known here"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A owns; B runs a build that knows no virtual address, and one has just been written."""
    async with Pair(tmp_path) as made:
        await made.in_sync()
        await made.restart("B", OLDER)
        made.b.stand(1)
        made.wire.connect()
        await made.a.execute(VIP)
        await until(lambda: made.b.state.blocked is not None)
        yield made


async def test_the_owner_knows_since_when_and_why_the_standby_applies_nothing(pair: Pair) -> None:
    this = World(pair.a).this
    await until(lambda: this.facts().peer_apply_blocked == WHY)
    assert this.facts().peer_applied_seq == 1
    assert this.facts().apply_blocked is None


async def test_a_standby_that_applies_nothing_still_stores_and_counts_for_level_pair(pair: Pair) -> None:
    done = await pair.a.update(domain="lab.example")
    assert done.durability == "pair"
    assert pair.b.log.head() == pair.a.log.head()


async def test_the_owner_forgets_what_the_standby_said_when_the_line_is_down_and_it_returns_mended(pair: Pair) -> None:
    this = World(pair.a).this
    await until(lambda: this.facts().peer_apply_blocked == WHY)
    newer = await pair.restart("B", REGISTRY)
    await until(lambda: this.facts().peer_apply_blocked is None)
    newer.stand(1)
    pair.wire.connect()
    await pair.equal()
    assert this.facts().peer_apply_blocked is None


async def test_it_owns_for_the_address_and_says_why_it_writes_no_configuration(pair: Pair) -> None:
    pair.wire.cut()
    await pair.take_over(pair.b)
    await until(lambda: pair.b.phase is Phase.OPEN)
    facts = World(pair.b, msgspec.structs.replace(BUILD, node="B")).this.facts()
    assert (facts.status, facts.behind) == ("MASTER", WHY)
    with pytest.raises(ConfigBehind, match="is not known here"):
        await pair.b.update(domain="lab.example")
    assert pair.b.kinds()[-1] == "network.vip.updated", "not even its term is written into a log that it cannot read"


async def test_it_is_not_forced_into_the_place_of_a_controller_that_can(pair: Pair) -> None:
    world = World(pair.b, msgspec.structs.replace(BUILD, node="B"))
    world.tenure.heard(standing("STANDBY", 1))
    with pytest.raises(ConfigBehind, match="the other controller is there and may own"):
        await world.this.force_master()
    assert world.forced == 0


async def test_controllers_that_cannot_read_each_others_log_both_say_so(pair: Pair) -> None:
    pair.wire.cut()
    pair.a.replica.identity = msgspec.structs.replace(pair.a.replica.identity, log_format_min=2)
    mine = pair.b.replica.identity
    pair.b.replica.identity = Identity(cluster_id=mine.cluster_id, node="B", catalogue="x", log_format_max=1)
    pair.wire.connect()
    a, b = World(pair.a).this, World(pair.b, msgspec.structs.replace(BUILD, node="B")).this
    await until(lambda: a.facts().peer_apart == f"peer reads log formats 1-1, this controller 2-{LOG_FORMAT}")
    assert b.facts().peer_apart in (None, f"peer reads log formats 2-{LOG_FORMAT}, this controller 1-1")
    assert not a.facts().peer_connected
