"""Frames byte by byte, against what ucarp sent and what the RFCs say."""

from __future__ import annotations

from ipaddress import ip_address

from middlewared.protocol.carp_packet import checksum
from middlewared.protocol.ethernet import advert, announcement, probe, virtual_mac

# The Ethernet and IPv4 headers of a frame that ucarp sent; its identification is random, ours is 0.
UCARP = bytes.fromhex("01005e0000120000 5e0000010800 45100038ec6d4000ff70ecc3c0000201e0000012")


def test_an_advert_has_the_headers_of_ucarp_but_for_the_mac_and_the_identification() -> None:
    frame = advert(1, "192.0.2.1", bytes(36))
    assert frame[:6] == UCARP[:6]
    assert frame[6:12] == virtual_mac(1) == bytes.fromhex("00005e000101")
    assert frame[12:18] == UCARP[12:18]
    assert frame[20:24] == UCARP[20:24]
    assert frame[26:34] == UCARP[26:34]
    assert checksum(frame[14:34]) == 0
    assert len(frame) == 70


def test_an_ipv6_advert_goes_to_the_group_with_hop_limit_255() -> None:
    frame = advert(9, "fe80::1", b"x" * 36)
    assert frame[:14] == bytes.fromhex("333300000012 00005e000109 86dd")
    assert frame[14:22] == bytes.fromhex("60000000 0024 70 ff")
    assert frame[22:38] == ip_address("fe80::1").packed
    assert frame[38:54] == ip_address("ff02::12").packed
    assert frame[54:] == b"x" * 36


def test_an_arp_announcement_names_the_vip_as_sender_and_as_target() -> None:
    frame = announcement(7, "192.0.2.10")
    assert frame == bytes.fromhex(
        "ffffffffffff 00005e000107 0806 0001 0800 06 04 0001 00005e000107 c000020a 000000000000 c000020a"
    )


def test_a_probe_asks_for_the_vip_from_nobody() -> None:
    mac = bytes.fromhex("020000000001")
    assert probe(mac, "192.0.2.10") == bytes.fromhex(
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 c000020a"
    )


def test_an_ipv6_probe_is_the_solicitation_of_duplicate_address_detection() -> None:
    frame = probe(bytes.fromhex("020000000001"), "2001:db8::10")
    assert frame[:14] == bytes.fromhex("3333ff000010 020000000001 86dd")
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == ip_address("ff02::1:ff00:10").packed
    message = frame[54:]
    assert message[0] == 135
    assert message[8:] == ip_address("2001:db8::10").packed
    pseudo = frame[22:54] + len(message).to_bytes(4) + (58).to_bytes(4)
    assert checksum(pseudo + message) == 0


def test_a_neighbour_advertisement_overrides_and_its_checksum_holds() -> None:
    frame = announcement(7, "2001:db8::10")
    vip = ip_address("2001:db8::10").packed
    assert frame[:14] == bytes.fromhex("333300000001 00005e000107 86dd")
    assert frame[20:22] == bytes((58, 255))
    assert frame[22:38] == vip
    message = frame[54:]
    assert message[0] == 136
    assert message[4:8] == bytes.fromhex("20000000")
    assert message[8:24] == vip
    assert message[24:] == bytes.fromhex("0201 00005e000107")
    pseudo = frame[22:54] + len(message).to_bytes(4) + (58).to_bytes(4)
    assert checksum(pseudo + message) == 0
