"""Who says that he has an address: read from frames, and from anything at all."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.ethernet import announcement, probe, virtual_mac
from middlewared.protocol.neighbours import Claim, in_advertisement, in_arp

MAC = bytes.fromhex("020000000009")
TARGET = ip_address("2001:db8::10").packed


def arp(operation: int, sender: str = "192.0.2.10") -> bytes:
    head = bytes(12) + bytes.fromhex("0806 0001 0800 06 04") + operation.to_bytes(2)
    return head + MAC + ip_address(sender).packed + bytes(6) + ip_address("192.0.2.1").packed


def advertisement(options: bytes) -> bytes:
    return bytes((136, 0, 0, 0, 0x20, 0, 0, 0)) + TARGET + options


def test_the_sender_of_a_request_and_of_a_reply_says_where_it_is() -> None:
    assert in_arp(arp(1)) == Claim("192.0.2.10", MAC, "an ARP request")
    assert in_arp(arp(2) + bytes(18)) == Claim("192.0.2.10", MAC, "an ARP reply")


def test_our_own_announcements_name_the_virtual_mac() -> None:
    claim = in_arp(announcement(7, "192.0.2.10"))
    assert claim is not None
    assert (claim.address, claim.mac) == ("192.0.2.10", virtual_mac(7))
    claim = in_advertisement(announcement(7, "2001:db8::10")[54:], 255)
    assert claim is not None
    assert (claim.address, claim.mac) == ("2001:db8::10", virtual_mac(7))


def test_who_only_asks_claims_nothing() -> None:
    assert in_arp(probe(MAC, "192.0.2.10")) is None
    assert in_advertisement(probe(MAC, "2001:db8::10")[54:], 255) is None


def test_the_mac_of_an_advertisement_is_found_among_its_options() -> None:
    nonce = bytes((14, 1)) + bytes(6)
    link = bytes((2, 1)) + MAC
    assert in_advertisement(advertisement(nonce + link), 255) == Claim("2001:db8::10", MAC, "a neighbour advertisement")


def test_an_advertisement_that_crossed_a_router_or_names_no_mac_claims_nothing() -> None:
    link = bytes((2, 1)) + MAC
    assert in_advertisement(advertisement(link), 254) is None
    assert in_advertisement(advertisement(b""), 255) is None
    assert in_advertisement(advertisement(bytes((2, 0)) + MAC), 255) is None
    assert in_advertisement(advertisement(bytes((2, 9)) + MAC), 255) is None


@given(st.binary(max_size=80), st.integers(0, 255))
def test_no_bytes_at_all_make_the_readers_raise(data: bytes, hop_limit: int) -> None:
    in_arp(data)
    in_advertisement(data, hop_limit)
    in_advertisement(advertisement(data), 255)
