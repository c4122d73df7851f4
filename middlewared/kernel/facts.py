"""Small facts that every floor speaks of."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Node: TypeAlias = Literal["A", "B"]
"""The two controllers of a chassis. A is the default owner unless the configuration says B."""


def other(node: Node) -> Node:
    return "B" if node == "A" else "A"


class PerNode(msgspec.Struct, frozen=True, kw_only=True):
    """A value that each controller has for itself; both apply the same event and each takes its own."""

    A: str
    B: str

    def of(self, node: Node) -> str:
        return self.A if node == "A" else self.B


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address and the CARP group that announces it.

    address: IPv4 or IPv6, without prefix length. interface: the parent, on both controllers. vhid: 1-255.
    """

    vhid: int
    address: str
    prefix: int
    interface: str


class Voting(msgspec.Struct, frozen=True, kw_only=True):
    """Which disks vote, by serial: one set, or the old and the new one while they are being changed.

    number: a higher one is a later configuration; 0 is the boot file's.
    """

    number: int
    sets: tuple[tuple[str, ...], ...]


class SharedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One shared disk as a controller sees it.

    sets: in which it votes, of one or two; changing: there are two. owner None: free. keeps: where its record and
    heartbeat are. slots_of: whose slots it has, "" where that is not known: slots_error says why they cannot be read,
    or is "" where they were not looked at. error: why it does not answer.
    """

    serial: str
    sets: tuple[int, ...]
    changing: bool
    reachable: bool
    owner: Node | None
    term: int
    keeps: str
    slots_of: str
    error: str
    slots_error: str = ""


class VipState(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP's CARP group on this controller. since: CLOCK_BOOTTIME. why: what brought it into its state.

    rivals: adverts that claimed what was held here. conflicts: times that somebody else was said to have the address.
    rejected: frames that were not believed; rejected_by: the same by reason. All count since carpd started. advskew:
    what this controller says on the wire, or would.
    """

    vhid: int
    address: str
    state: Literal["INIT", "BACKUP", "MASTER"]
    since: float
    rivals: int
    rejected: int
    why: str
    interface: str = ""
    advskew: int = 0
    conflicts: int = 0
    rejected_by: dict[str, int] = {}


class FailoverGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Interfaces that stand in for one another: the group is lost when all of them are down."""

    number: int
    interfaces: tuple[str, ...]


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """An interface that failover looks at. up: it is there and has carrier, since CLOCK_BOOTTIME `since`."""

    name: str
    up: bool
    since: float


class HostLink(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface of this controller, as its kernel has it. addresses: with prefix length, whoever set them.

    kind: "" for a device, else what the kernel calls it (bond, vlan, veth). interlink: it goes to the other controller.
    """

    name: str
    mac: str
    kind: str
    mtu: int
    carrier: bool
    addresses: tuple[tuple[str, int], ...]
    interlink: bool

    @property
    def is_aggregate(self) -> bool:
        return self.kind in ("bond", "team")


SightingKind: TypeAlias = Literal["DUPLICATE_VHID", "FOREIGN_VHID", "VIP_CONFLICT"]


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody on the LAN who is not of this pair and comes near to what is ours.

    DUPLICATE_VHID: adverts (CARP or VRRP) for a VHID of ours that our key did not sign. FOREIGN_VHID: for another one.
    VIP_CONFLICT: ARP or neighbour discovery names another MAC for a VIP of ours.
    address: the VIP, "" for a foreign VHID. who: the IP address of an advert's sender, or the MAC that was named.
    how: in which words. Times: CLOCK_BOOTTIME.
    """

    kind: SightingKind
    interface: str
    vhid: int
    address: str
    who: str
    how: str
    count: int
    first_at: float
    last_at: float


class PoolName(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that is configured. guid: decimal, which is what it is imported by; the name is for people and paths."""

    name: str
    guid: str


class PairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record on the shared disks: who may write, and what a successor's log must reach.

    in_sync: the controllers whose logs hold every event that was ever answered. Only the owner of `term` writes it.
    serial: counts the writes within a term, set by fenced; of two records the higher (term, serial) is the later.
    """

    term: int
    owner: Node
    in_sync: tuple[Node, ...]
    committed_seq: int
    committed_hash: bytes
    serial: int = 0
