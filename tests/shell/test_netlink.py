"""Attributes and messages of rtnetlink, and the links of this machine."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.errors import PortFailed
from middlewared.shell import netlink
from middlewared.shell.links import Links
from middlewared.shell.netlink import Netlink


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_that_were_written_are_read(values: dict[int, bytes]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in values.items())
    assert len(data) % 4 == 0
    assert netlink.attributes(data) == values


@given(st.binary(max_size=200))
def test_no_bytes_make_the_readers_raise_or_go_on_for_ever(data: bytes) -> None:
    netlink.attributes(data)
    list(netlink.messages(data))


def test_numbers_and_names_have_the_kernels_form() -> None:
    assert netlink.u32(5, 7) == struct.pack("=HHI", 8, 5, 7)
    assert netlink.text(3, "lo") == struct.pack("=HH", 7, 3) + b"lo\0\0"


def test_the_loopback_is_found() -> None:
    requests = Netlink()
    links = Links(requests, lambda: None)
    lo = links.by_name("lo")
    assert lo is not None
    assert lo.index == 1
    assert lo in links.all()
    assert not links.has_carrier("no such interface")
    links.read()
    links.close()
    requests.close()


def test_what_the_kernel_refuses_names_the_purpose_and_the_reason() -> None:
    requests = Netlink()
    with pytest.raises(PortFailed, match=r"deleting nothing: .*(ENODEV|EPERM|EINVAL)"):
        requests.change("deleting nothing", netlink.RTM_DELLINK, struct.pack("=BxHiII", 0, 0, 2**31 - 1, 0, 0))
    requests.close()
