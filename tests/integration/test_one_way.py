"""Cables that carry in one direction only (F19): nothing moves by them, and nobody holds the VIP twice. Needs root."""

from __future__ import annotations

import pytest

from middlewared.lab.driver import Pair
from middlewared.lab.faults import Link, Way
from tests.integration.conftest import holds_for

pytestmark = [pytest.mark.root, pytest.mark.full]


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("link", ["lan:A", "lan:B", "interlink"])
def test_f19_a_cable_that_carries_one_way_only_moves_nothing(pair: Pair, link: Link, way: Way) -> None:
    term = pair.sync("A").term
    pair.cut(link, way=way)
    holds_for(lambda: pair.vip_owner() == "A", 3.0, "A has the virtual IP, alone")
    assert (pair.role("A"), pair.role("B")) == ("MASTER", "BACKUP")
    pair.heal(link)
    pair.wait_until("both are in sync", lambda: pair.is_whole("A"), within_s=8)
    assert pair.sync("A").term == term


@pytest.mark.parametrize("way", ["in", "out"])
def test_f19_interlink_and_lan_one_way_at_once_leave_the_owner_of_the_disks(pair: Pair, way: Way) -> None:
    pair.cut("interlink", "lan:B", way=way)
    holds_for(lambda: pair.vip_owner() == "A", 3.0, "A has the virtual IP, alone")
    pair.heal("interlink", "lan:B")
    pair.wait_until("both are in sync", lambda: pair.is_whole("A"), within_s=8)
