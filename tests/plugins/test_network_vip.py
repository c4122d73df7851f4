from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st
from middlewared_plugins.network.vip import NOUN, Delete, Deleted, Update, Updated, VirtualAddress

from middlewared.kernel.facts import Vip
from tests.plugins.given import given

VIP = Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")
SET = Updated(vip=VIP)
ALL = Update(address="10.0.0.9", prefix=24, interface="lan0", vhid=7)

vips = st.builds(
    Vip,
    vhid=st.integers(1, 255),
    address=st.sampled_from(("10.1.2.3", "192.0.2.200", "fd00::9")),
    prefix=st.integers(1, 32),
    interface=st.from_regex(r"[a-z][a-z0-9.]{0,14}", fullmatch=True),
)


def test_the_first_address_needs_everything_but_the_prefix() -> None:
    given(NOUN).when(ALL).then(SET)
    assert list(given(NOUN).when(Update(prefix=24)).refused()) == ["address", "interface", "vhid"]


@pytest.mark.parametrize(("address", "prefix"), [("10.0.0.9", 32), ("fd00::9", 128)])
def test_a_prefix_that_was_never_given_is_that_of_one_address(address: str, prefix: int) -> None:
    vip = given(NOUN).when(Update(address=address, interface="lan0", vhid=7)).after().vip
    assert vip is not None
    assert vip.prefix == prefix


def test_what_is_left_out_stays() -> None:
    given(NOUN, SET).when(Update(vhid=8)).then(
        Updated(vip=Vip(vhid=8, address="10.0.0.9", prefix=24, interface="lan0"))
    )
    given(NOUN, SET).when(Update(address="10.0.0.10")).then(
        Updated(vip=Vip(vhid=7, address="10.0.0.10", prefix=24, interface="lan0"))
    )


def test_an_address_of_the_other_family_does_not_keep_the_prefix() -> None:
    given(NOUN, SET).when(Update(address="fd00::9")).then(
        Updated(vip=Vip(vhid=7, address="fd00::9", prefix=128, interface="lan0"))
    )


def test_what_is_there_already_makes_no_event() -> None:
    given(NOUN, SET).when(ALL).then()
    given(NOUN, SET).when(Update()).then()
    given(NOUN).when(Delete()).then()


def test_an_address_that_is_deleted_is_gone_and_can_be_set_again() -> None:
    given(NOUN, SET).when(Delete()).then(Deleted())
    assert given(NOUN, SET, Deleted()).state == VirtualAddress()
    given(NOUN, SET, Deleted()).when(ALL).then(SET)


@pytest.mark.parametrize("vhid", [0, 256, 300, -1])
def test_a_vhid_that_does_not_fit_a_byte_is_refused(vhid: int) -> None:
    assert given(NOUN, SET).when(Update(vhid=vhid)).refused() == {
        "vhid": f"{vhid} is not a virtual host id from 1 to 255"
    }


@pytest.mark.parametrize("vhid", [1, 255])
def test_the_first_and_the_last_vhid_are_taken(vhid: int) -> None:
    vip = given(NOUN, SET).when(Update(vhid=vhid)).after().vip
    assert vip is not None
    assert vip.vhid == vhid


@pytest.mark.parametrize(("address", "prefix"), [("10.0.0.9", 0), ("10.0.0.9", 33), ("fd00::9", 129), ("fd00::9", -1)])
def test_a_prefix_that_the_family_does_not_have_is_refused(address: str, prefix: int) -> None:
    assert list(given(NOUN, SET).when(Update(address=address, prefix=prefix)).refused()) == ["prefix"]


@pytest.mark.parametrize(
    "address",
    ["", "lan", "10.0.0", "10.0.0.9/24", "224.0.0.18", "ff02::12", "0.0.0.0", "::", "127.0.0.1", "fe80::1%lan0"],
)
def test_what_no_controller_can_have_on_a_lan_is_refused(address: str) -> None:
    refused = given(NOUN, SET).when(Update(address=address)).refused()
    assert refused["address"] == f"{address!r} is not the IP address of one controller"


@pytest.mark.parametrize("interface", ["", "a b", "a/b", "a:1", "x" * 16, ".", "..", "lan0\n", "größe"])
def test_a_name_that_no_interface_can_have_is_refused(interface: str) -> None:
    assert list(given(NOUN, SET).when(Update(interface=interface)).refused()) == ["interface"]


@pytest.mark.parametrize("interface", ["l", "bond0.100", "..x", "x" * 15])
def test_a_name_that_the_kernel_takes_is_taken(interface: str) -> None:
    vip = given(NOUN, SET).when(Update(interface=interface)).after().vip
    assert vip is not None
    assert vip.interface == interface


def test_every_wrong_field_is_named_at_once() -> None:
    command = Update(address="x", prefix=24, interface="", vhid=0)
    assert list(given(NOUN).when(command).refused()) == ["address", "vhid", "interface"]


@hypothesis.given(st.none() | vips, vips)
def test_after_a_whole_command_the_address_is_what_was_asked(before: Vip | None, wanted: Vip) -> None:
    start = given(NOUN, *([Updated(vip=before)] if before is not None else []))
    command = Update(address=wanted.address, prefix=wanted.prefix, interface=wanted.interface, vhid=wanted.vhid)
    assert start.when(command).after() == VirtualAddress(vip=wanted)


@hypothesis.given(st.none() | vips)
def test_what_is_projected_can_be_restored(vip: Vip | None) -> None:
    state = VirtualAddress(vip=vip)
    rows = NOUN.project(state)
    assert all(set(row) == {column.name for column in NOUN.table.columns} for row in rows)
    assert NOUN.restore(rows) == state
