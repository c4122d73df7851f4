"""CARP version 2 as bytes: 36 of them, after an IPv4 or IPv6 header with protocol 112.

CARP has no RFC; OpenBSD's carp(4) and netinet/ip_carp.h define it:

     0        version 2 (high half) | type 1, advertisement (low half)
     1        VHID, 1-255
     2        advskew, 1/256 s
     3        length of the authentication data in 32-bit words: 7
     4        demotion count, 0 here
     5        advbase, s
     6-7      Internet checksum over the 36 bytes
     8-15     counter
    16-35     HMAC-SHA1, key = password padded with zeros, over
              version | type | VHID | addresses (IPv4 ascending, then IPv6 ascending) | counter

The HMAC covers neither advbase, advskew nor the source address: whoever recorded one frame can send it again with any
of these altered. So nothing that a frame says outside the HMAC may decide anything between our two controllers
(protocol/carp.py); and the TTL or hop limit must be 255, which no frame that crossed a router has.

Sent to 224.0.0.18 and ff02::12.
"""

from __future__ import annotations

import hmac
import struct
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

PROTOCOL = 112
GROUP_4 = IPv4Address("224.0.0.18")
GROUP_6 = IPv6Address("ff02::12")
TTL = 255
SIZE = 36
KEY_SIZE = 20

_VERSION_TYPE = 0x21
_AUTH_WORDS = 7
_HEAD = struct.Struct("!BBBBBBH")
_COUNTER = struct.Struct("!Q")


class Fault(Enum):
    """Why a frame is refused, in the order of the checks."""

    TRUNCATED = "truncated"
    TTL = "TTL or hop limit is not 255"
    VERSION = "not a CARP version 2 advertisement"
    OTHER_VHID = "other VHID"
    CHECKSUM = "bad checksum"
    DIGEST = "bad digest"


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """An advertisement. advbase in seconds, advskew in 1/256 s; both are outside the HMAC."""

    vhid: int
    advbase: int
    advskew: int
    counter: int

    @property
    def interval_s(self) -> float:
        """How often the sender says it advertises; the lower one wins an ordinary CARP election."""
        return self.advbase + self.advskew / 256


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What the members of a group share: key (at most 20 bytes) and the addresses that it carries."""

    vhid: int
    key: bytes
    addresses: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.key) > KEY_SIZE:
            raise ValueError(f"a CARP key has at most {KEY_SIZE} bytes, not {len(self.key)}")

    def digest(self, counter: int) -> bytes:
        """The HMAC-SHA1 of an advertisement with this counter."""
        said = bytes((2, 1, self.vhid)) + _packed(self.addresses) + _COUNTER.pack(counter)
        return hmac.digest(self.key.ljust(KEY_SIZE, b"\0"), said, "sha1")


def encode(frame: Frame, secret: Secret) -> bytes:
    """The 36 bytes of `frame`, signed and summed."""
    tail = _COUNTER.pack(frame.counter) + secret.digest(frame.counter)
    blank = _HEAD.pack(_VERSION_TYPE, frame.vhid, frame.advskew, _AUTH_WORDS, 0, frame.advbase, 0)
    total = checksum(blank + tail)
    return _HEAD.pack(_VERSION_TYPE, frame.vhid, frame.advskew, _AUTH_WORDS, 0, frame.advbase, total) + tail


def decode(data: bytes, ttl: int, secret: Secret) -> Frame | Fault:
    """Read what followed an IP header whose TTL or hop limit was `ttl`. Padding after the 36 bytes is ignored."""
    if len(data) < SIZE:
        return Fault.TRUNCATED
    data = data[:SIZE]
    version_type, vhid, advskew, auth_words, _, advbase, _ = _HEAD.unpack_from(data)
    if ttl != TTL:
        return Fault.TTL
    if version_type != _VERSION_TYPE or auth_words != _AUTH_WORDS:
        return Fault.VERSION
    if vhid != secret.vhid:
        return Fault.OTHER_VHID
    if checksum(data) != 0:
        return Fault.CHECKSUM
    (counter,) = _COUNTER.unpack_from(data, 8)
    if not hmac.compare_digest(data[16:], secret.digest(counter)):
        return Fault.DIGEST
    return Frame(vhid=vhid, advbase=advbase, advskew=advskew, counter=counter)


def vhid_of(data: bytes) -> int | None:
    """Which group a frame is for, before anything else is checked; None if it is too short to say."""
    return data[1] if len(data) >= SIZE else None


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that holds its own sum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@lru_cache(maxsize=256)
def _packed(addresses: tuple[str, ...]) -> bytes:
    parsed = [ip_address(address) for address in addresses]
    return b"".join(address.packed for address in sorted(parsed, key=lambda a: (a.version, a.packed)))
