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
from enum import StrEnum
from functools import lru_cache
from hashlib import sha1
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

PROTOCOL = 112
GROUP_4 = IPv4Address("224.0.0.18")
GROUP_6 = IPv6Address("ff02::12")
TTL = 255
SIZE = 36
FAREWELL = 255
"""As advbase and advskew: no further advert comes. advbase 255 is longer than anybody waits."""
KEY_SIZE = 20

_VERSION_TYPE = 0x21
_AUTH_WORDS = 7
_BLOCK = 64
_VRRP_SIZE = 12
_HEAD = struct.Struct("!BBBBBBH")
_COUNTER = struct.Struct("!Q")


class Fault(StrEnum):
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

    @property
    def is_farewell(self) -> bool:
        return self.advbase == FAREWELL


class Secret:
    """What the members of a group share: key (at most 20 bytes) and the addresses that it carries.

    All that is the same for each frame is hashed once, here: somebody may send ten thousand frames a second.
    """

    def __init__(self, *, vhid: int, key: bytes, addresses: tuple[str, ...]) -> None:
        if len(key) > KEY_SIZE:
            raise ValueError(f"a CARP key has at most {KEY_SIZE} bytes, not {len(key)}")
        self.vhid = vhid
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = sha1(bytes(byte ^ 0x36 for byte in padded) + bytes((2, 1, vhid)) + _packed(addresses))  # noqa: S324
        self._outer = sha1(bytes(byte ^ 0x5C for byte in padded))  # noqa: S324

    def digest(self, counter: bytes) -> bytes:
        """The HMAC-SHA1 (RFC 2104) of an advertisement with this counter, given as its 8 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(counter)
        outer.update(inner.digest())
        return outer.digest()


def encode(frame: Frame, secret: Secret) -> bytes:
    """The 36 bytes of `frame`, signed and summed."""
    counter = _COUNTER.pack(frame.counter)
    tail = counter + secret.digest(counter)
    blank = _HEAD.pack(_VERSION_TYPE, frame.vhid, frame.advskew, _AUTH_WORDS, 0, frame.advbase, 0)
    total = checksum(blank + tail)
    return _HEAD.pack(_VERSION_TYPE, frame.vhid, frame.advskew, _AUTH_WORDS, 0, frame.advbase, total) + tail


def decode(data: bytes, ttl: int, secret: Secret) -> Frame | Fault:
    """Read what followed an IP header whose TTL or hop limit was `ttl`. Padding after the 36 bytes is ignored."""
    if len(data) < SIZE:
        return Fault.TRUNCATED
    if ttl != TTL:
        return Fault.TTL
    if data[0] != _VERSION_TYPE or data[3] != _AUTH_WORDS:
        return Fault.VERSION
    if data[1] != secret.vhid:
        return Fault.OTHER_VHID
    if not _adds_up(data[:SIZE]):
        return Fault.CHECKSUM
    if not hmac.compare_digest(data[16:SIZE], secret.digest(data[8:16])):
        return Fault.DIGEST
    return Frame(vhid=data[1], advbase=data[5], advskew=data[2], counter=int.from_bytes(data[8:16]))


def vhid_of(data: bytes) -> int | None:
    """Which group a frame is for, before anything else is checked; None if it is too short to say."""
    return data[1] if len(data) >= SIZE else None


def router_of(data: bytes, ttl: int) -> tuple[int, str] | None:
    """Whose advert this is, whatever its key: (VHID, protocol); None for what no honest router sends.

    VRRP has the same protocol number, the same group 224.0.0.18 and the same virtual MACs: a router with our VHID as
    its VRID takes our MAC as a CARP router does. Its sum is not looked at: version 3 counts a pseudo-header in.
    """
    if ttl != TTL or len(data) < _VRRP_SIZE:
        return None
    if len(data) >= SIZE and data[0] == _VERSION_TYPE and data[3] == _AUTH_WORDS and _adds_up(data[:SIZE]):
        return data[1], "CARP"
    if data[0] >> 4 in (2, 3) and data[0] & 0x0F == 1 and _is_vrrp(data):
        return data[1], "VRRP"
    return None


def _is_vrrp(data: bytes) -> bool:
    """RFC 3768 and 5798: a count of addresses that the length bears out; version 2 has 8 bytes of authentication."""
    tail = 8 if data[0] >> 4 == 2 else 0
    return data[3] > 0 and len(data) in (8 + 4 * data[3] + tail, 8 + 16 * data[3] + tail)


def _adds_up(data: bytes) -> bool:
    """The Internet checksum of an even number of bytes is right: as a number they are a multiple of 2**16 - 1."""
    return int.from_bytes(data) % 0xFFFF == 0


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
