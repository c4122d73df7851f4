"""The frames that a VIP's holder sends: an advert, a gratuitous ARP or unsolicited neighbour advertisement, a probe.

All but the probe leave with the virtual MAC 00:00:5e:00:01:VHID as their source, so that every one of them teaches each
switch on the way where that MAC is now. Whole frames are made here, because a raw IP socket would send the interface's
own MAC.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 5227 sections 2.1.1 and 3 (ARP probe and announcement), RFC 4861 sections
4.4 and 7.2.6 (neighbour advertisement), RFC 4862 section 5.4.2 (solicitation without an address), RFC 1112 and RFC 2464
(multicast MACs).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from middlewared.protocol.carp_packet import GROUP_4, GROUP_6, PROTOCOL, TTL, checksum

BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]

_TYPE_IP4 = 0x0800
_TYPE_ARP = 0x0806
_TYPE_IP6 = 0x86DD
_ICMP6 = 58
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_ADDRESS = 2
_TOS_LOW_DELAY = 0x10
_DONT_FRAGMENT = 0x4000


def virtual_mac(vhid: int) -> bytes:
    """The MAC that belongs to a group and not to a controller."""
    return bytes((0x00, 0x00, 0x5E, 0x00, 0x01, vhid))


def advert(vhid: int, source: str, payload: bytes) -> bytes:
    """A CARP advert as a frame. source: an address of the sending interface; it chooses IPv4 or IPv6."""
    sender = ip_address(source)
    if isinstance(sender, IPv4Address):
        destination = b"\x01\x00\x5e" + bytes((GROUP_4.packed[1] & 0x7F,)) + GROUP_4.packed[2:]
        return _ethernet(destination, vhid, _TYPE_IP4, _ip4(sender, GROUP_4, payload))
    return _ethernet(_multicast_6(GROUP_6), vhid, _TYPE_IP6, _ip6(sender, GROUP_6, PROTOCOL, payload))


def announcement(vhid: int, address: str) -> bytes:
    """`address` is at the virtual MAC: to everyone on the link."""
    vip = ip_address(address)
    if isinstance(vip, IPv4Address):
        return _ethernet(BROADCAST, vhid, _TYPE_ARP, _arp(vhid, vip))
    return _ethernet(_multicast_6(ALL_NODES), vhid, _TYPE_IP6, _neighbour_advertisement(vhid, vip))


def probe(mac: bytes, address: str) -> bytes:
    """Who has `address`? Asked by somebody at `mac` who has no address yet, so that it teaches nobody anything.

    The holder of a VIP asks from its interface's own MAC; its own virtual MAC does not hear the question.
    """
    wanted = ip_address(address)
    if isinstance(wanted, IPv4Address):
        question = struct.pack("!HHBBH", 1, _TYPE_IP4, 6, 4, 1) + mac + bytes(4) + bytes(6) + wanted.packed
        return BROADCAST + mac + struct.pack("!H", _TYPE_ARP) + question
    group = IPv6Address(_SOLICITED_NODE + wanted.packed[-3:])
    question = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + wanted.packed
    nobody = IPv6Address(0)
    packet = _ip6(nobody, group, _ICMP6, _summed(nobody, group, question))
    return _multicast_6(group) + mac + struct.pack("!H", _TYPE_IP6) + packet


def _ethernet(destination: bytes, vhid: int, ethertype: int, payload: bytes) -> bytes:
    return destination + virtual_mac(vhid) + struct.pack("!H", ethertype) + payload


def _ip4(source: IPv4Address, destination: IPv4Address, payload: bytes) -> bytes:
    def header(total: int) -> bytes:
        return struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            _TOS_LOW_DELAY,
            20 + len(payload),
            0,  # an identification says nothing in a packet that may not be fragmented (RFC 6864)
            _DONT_FRAGMENT,
            TTL,
            PROTOCOL,
            total,
            source.packed,
            destination.packed,
        )

    return header(checksum(header(0))) + payload


def _ip6(source: IPv6Address, destination: IPv6Address, next_header: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, TTL) + source.packed + destination.packed + payload


def _arp(vhid: int, address: IPv4Address) -> bytes:
    """An ARP request whose sender and target address are the same: RFC 5227's announcement."""
    head = struct.pack("!HHBBH", 1, _TYPE_IP4, 6, 4, 1)
    return head + virtual_mac(vhid) + address.packed + bytes(6) + address.packed


def _neighbour_advertisement(vhid: int, address: IPv6Address) -> bytes:
    option = bytes((_TARGET_LINK_ADDRESS, 1)) + virtual_mac(vhid)
    message = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed + option
    return _ip6(address, ALL_NODES, _ICMP6, _summed(address, ALL_NODES, message))


def _summed(source: IPv6Address, destination: IPv6Address, message: bytes) -> bytes:
    """An ICMPv6 message with its checksum (RFC 4443 section 2.3)."""
    pseudo = source.packed + destination.packed + struct.pack("!II", len(message), _ICMP6)
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def _multicast_6(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[12:]
