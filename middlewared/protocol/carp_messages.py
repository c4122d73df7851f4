"""What a CARP group is, what comes in to its machine, and what comes out."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from middlewared.kernel.facts import Node


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one group. address: the VIP. advbase in seconds, advskew in 1/256 s.

    dead_count: how many missing intervals make silence; in plain mode it multiplies advbase only, as carp(4) has it.
    """

    vhid: int
    address: str
    key: bytes
    advbase: int
    advskew: int
    dead_count: int = 3
    lease_s: float = 1.0
    renew_s: float = 0.25
    stall_s: float = 0.75

    @property
    def interval_s(self) -> float:
        return self.advbase + self.advskew / 256


# What comes in.
class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """fenced: this controller owns `term`."""

    term: int


class Revoke(msgspec.Struct, frozen=True, kw_only=True):
    """fenced: this controller owns nothing; `term` is the highest known."""

    term: int
    why: str


class Withdraw(msgspec.Struct, frozen=True, kw_only=True):
    """There is nobody to ask any more, or the process ends."""

    why: str


class Start(msgspec.Struct, frozen=True):
    """Plain mode: take part in the election."""


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """The shell noticed that the process did not run for `gap_s`."""

    gap_s: float


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """What came after an IP header with protocol 112, and what that header said."""

    data: bytes
    ttl: int
    source: str


class Contended(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is not of this pair said that the VIP is at `mac`. how: in which words."""

    mac: str
    how: str


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How this controller is, for what its adverts say. demoted: a failover group is lost, or failover is disabled.

    refused: the system did not do for this VIP what the machine wants.
    """

    node: Node
    demoted: bool
    refused: bool


class Tick(msgspec.Struct, frozen=True):
    """The deadline has come, or may have."""


Message: TypeAlias = Grant | Revoke | Withdraw | Start | Stalled | Packet | Contended | Condition | Tick


# What comes out; to be carried out in order, at once.
class SendAdvert(msgspec.Struct, frozen=True):
    """The 36 bytes, to the group's multicast address with TTL 255."""

    data: bytes


class TakeVip(msgspec.Struct, frozen=True):
    lease_s: float


class RenewVip(msgspec.Struct, frozen=True):
    lease_s: float


class DropVip(msgspec.Struct, frozen=True):
    """Idempotent: there may be nothing to drop."""


class Announce(msgspec.Struct, frozen=True):
    """Gratuitous ARP, or unsolicited neighbour advertisement."""


class Probe(msgspec.Struct, frozen=True):
    """Ask the LAN who has the VIP, as one who has no address yet; whoever answers should not have it."""


class Sighted(msgspec.Struct, frozen=True):
    """`who` advertises this group's VHID by `protocol` (CARP, VRRP), and has not our key.

    times: how many such frames there were since this was last said, which is at most once an interval.
    """

    who: str
    protocol: str
    times: int = 1


class Report(msgspec.Struct, frozen=True):
    """Something to log and to tell fenced. stalled: fenced must be asked anew."""

    why: str
    stalled: bool = False


Action: TypeAlias = SendAdvert | TakeVip | RenewVip | DropVip | Announce | Probe | Sighted | Report
