"""Who says that he has an address: ARP packets and neighbour advertisements, read for the MAC that they name.

A VIP of ours is at its virtual MAC and nowhere else. Any other MAC that is named for it is a conflict: somebody has it
set by hand, or takes traffic on purpose. What names ours is our own holder's, whichever controller that is.

Not seen: what somebody answers to a single client, on a switch that does not show it to us. The holder of a VIP
therefore asks from time to time (`ethernet.probe`); whoever has the address answers to it.
Sources: RFC 826, RFC 5227, RFC 4861 sections 4.4 and 7.1.2.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import msgspec

_ARP = struct.Struct("!HHBBH6s4s")
_ETHERNET_SIZE = 14
_IPV4_OVER_ETHERNET = (1, 0x0800, 6, 4)
_REPLY = 2
_ADVERTISEMENT = 136
_ADVERTISEMENT_SIZE = 24
_TARGET_LINK_ADDRESS = 2
_HOP_LIMIT = 255


class Claim(msgspec.Struct, frozen=True):
    """`address` is said to be at `mac`. how: in which words, for people."""

    address: str
    mac: bytes
    how: str


def in_arp(frame: bytes) -> Claim | None:
    """What the sender of an ARP packet says of itself; None: nothing, or no such packet. frame: with its header."""
    if len(frame) < _ETHERNET_SIZE + _ARP.size:
        return None
    *form, operation, mac, sender = _ARP.unpack_from(frame, _ETHERNET_SIZE)
    if tuple(form) != _IPV4_OVER_ETHERNET or sender == bytes(4):
        return None
    return Claim(".".join(map(str, sender)), mac, "an ARP reply" if operation == _REPLY else "an ARP request")


def in_advertisement(message: bytes, hop_limit: int) -> Claim | None:
    """What a neighbour advertisement says of its target; message: ICMPv6. None: not one, or without a MAC."""
    if hop_limit != _HOP_LIMIT or len(message) < _ADVERTISEMENT_SIZE or message[0] != _ADVERTISEMENT:
        return None
    mac = _option(message[_ADVERTISEMENT_SIZE:], _TARGET_LINK_ADDRESS)
    if mac is None or len(mac) != 6:
        return None
    return Claim(str(IPv6Address(message[8:24])), mac, "a neighbour advertisement")


def _option(options: bytes, kind: int) -> bytes | None:
    """The value of the first option of a kind; their lengths count units of 8 bytes."""
    while len(options) >= 8 and options[1] > 0:
        size = options[1] * 8
        if options[0] == kind and size <= len(options):
            return options[2:size]
        options = options[size:]
    return None
