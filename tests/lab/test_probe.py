"""What the probe sends and what it takes for an answer."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from middlewared.lab.probe import echo_request, reason, ttl_of_reply
from middlewared.protocol.carp_packet import checksum

VIP = bytes((192, 0, 2, 10))
CLIENT = bytes((192, 0, 2, 100))
MS = 1_000_000


def frame(source: bytes, icmp: bytes, ttl: int = 61, protocol: int = 1, options: bytes = b"") -> bytes:
    """An Ethernet frame with an IPv4 packet (RFC 791); the probe does not look at its checksums."""
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(icmp), 0, 0, ttl, protocol, 0)
    return bytes(12) + b"\x08\x00" + head + source + CLIENT + options + icmp


def reply(ident: int) -> bytes:
    return struct.pack("!BBHHH", 0, 0, 0, ident, 1)


@given(ident=st.integers(0, 0xFFFF), number=st.integers(0, 0xFFFF))
def test_the_checksum_of_a_request_is_right(ident: int, number: int) -> None:
    request = echo_request(ident, number)
    assert checksum(request) == 0
    assert request[4:] == struct.pack("!HH", ident, number)


@given(ttl=st.integers(1, 255), ident=st.integers(0, 0xFFFF), options=st.sampled_from((b"", bytes(4), bytes(40))))
def test_a_reply_from_the_address_to_us_gives_its_ttl(ttl: int, ident: int, options: bytes) -> None:
    assert ttl_of_reply(frame(VIP, reply(ident), ttl, options=options), VIP, ident) == ttl


def test_other_addresses_other_pings_requests_and_other_protocols_are_not_replies() -> None:
    assert ttl_of_reply(frame(CLIENT, reply(7)), VIP, 7) is None
    assert ttl_of_reply(frame(VIP, reply(8)), VIP, 7) is None
    assert ttl_of_reply(frame(VIP, echo_request(7, 1)), VIP, 7) is None
    assert ttl_of_reply(frame(VIP, reply(7), protocol=17), VIP, 7) is None


def test_told_are_the_first_reply_another_owner_and_a_long_silence() -> None:
    assert reason(61, 0, 5 * MS, 3 * MS) == "first"
    assert reason(62, 61, MS, 3 * MS) == "owner"
    assert reason(61, 61, 3 * MS, 3 * MS) == "gap"
    assert reason(61, 61, 3 * MS - 1, 3 * MS) == ""
