"""Strangers: kept while they are there, forgotten when they are gone, and never more than can be told."""

from __future__ import annotations

from middlewared.protocol.sightings import AT_MOST, FORGET_S, Sightings


def test_a_stranger_is_counted_from_the_first_time_to_the_last() -> None:
    sightings = Sightings()
    for n in range(5):
        sightings.saw("DUPLICATE_VHID", "eth0", 7, f"192.0.2.{n}", "CARP adverts", 1.0 + n, address="192.0.2.10")
    (seen,) = sightings.current(5.0)
    assert (seen.count, seen.first_at, seen.last_at, seen.who) == (5, 1.0, 5.0, "192.0.2.4")


def test_who_is_gone_is_forgotten_and_begins_anew_when_it_is_back() -> None:
    sightings = Sightings()
    sightings.saw("FOREIGN_VHID", "eth0", 20, "192.0.2.9", "VRRP adverts", 1.0)
    assert sightings.current(1.0 + FORGET_S)
    sightings.saw("FOREIGN_VHID", "eth0", 20, "192.0.2.9", "VRRP adverts", 2.0 + FORGET_S)
    (seen,) = sightings.current(2.0 + FORGET_S)
    assert (seen.count, seen.first_at) == (1, 2.0 + FORGET_S)
    assert sightings.current(3.0 + 2 * FORGET_S) == ()


def test_the_gravest_come_first_and_only_so_many_are_told() -> None:
    sightings = Sightings()
    for vhid in range(1, 256):
        sightings.saw("FOREIGN_VHID", "eth0", vhid, "192.0.2.9", "CARP adverts", 1.0)
    sightings.saw("DUPLICATE_VHID", "eth0", 7, "192.0.2.9", "CARP adverts", 1.0)
    sightings.saw("VIP_CONFLICT", "eth1", 8, "02:00:00:00:00:09", "an ARP reply", 1.0)
    told = sightings.current(1.0)
    assert len(told) == AT_MOST
    assert [seen.kind for seen in told[:3]] == ["VIP_CONFLICT", "DUPLICATE_VHID", "FOREIGN_VHID"]


def test_strangers_on_an_interface_without_vips_are_none_of_ours() -> None:
    sightings = Sightings()
    sightings.saw("FOREIGN_VHID", "eth0", 20, "192.0.2.9", "CARP adverts", 1.0)
    sightings.forget(frozenset({"eth1"}))
    assert sightings.current(1.0) == ()
