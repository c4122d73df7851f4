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
