"""Which cables of the lab are whole, given what was switched off and what was cut. Pure.

The lab never patches cables one command at a time. Every command changes the one value `Faults`; from it `wiring`
says which ports are up, which frames are dropped and which shelf cables are cut, and the bench applies the difference.
So commands are idempotent, and a heal during a power cut cannot plug a dead controller in.

Ports are the switch's ends of the cables: sA, sB, sC of the LAN (C is the client), tA, tB, tC of the second LAN, iA and
iB of the interlink. A controller sees carrier on its end exactly while the port is up.

    power X off     sX, tX, iA and iB down, shelf:X cut: a dead machine drops the carrier at both ends of the interlink
    cut lan:X       sX down: X loses carrier on eth0; cut lan2:X: tX, eth1
    cut interlink   iA and iB down: both lose carrier
    --one-way       in: frames towards X are dropped, out: frames from X; carrier stays. For the interlink X is A.
    --lossy         LOST_PERCENT of all frames are dropped, at random, in both directions; carrier stays

Not handled: delay. A shelf cable loses nothing: what it carries is no frames.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node

Link: TypeAlias = Literal["lan:A", "lan:B", "lan2:A", "lan2:B", "interlink", "shelf:A", "shelf:B"]
Way: TypeAlias = Literal["both", "in", "out", "lossy"]

LOST_PERCENT = 30
"""What a lossy cable drops in each direction."""

NODES: tuple[Node, Node] = ("A", "B")
LINKS: tuple[Link, ...] = ("lan:A", "lan:B", "lan2:A", "lan2:B", "interlink", "shelf:A", "shelf:B")


_LANS: dict[str, dict[Node, Link]] = {"s": {"A": "lan:A", "B": "lan:B"}, "t": {"A": "lan2:A", "B": "lan2:B"}}
_SHELF: dict[Node, Link] = {"A": "shelf:A", "B": "shelf:B"}


class Cut(msgspec.Struct, frozen=True, order=True):
    """One cut cable. way: in and out are seen from the named controller; lossy: cut for some of the frames only."""

    link: Link
    way: Way

    def __str__(self) -> str:
        return self.link if self.way == "both" else f"{self.link} {self.way}"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is wrong in the lab. plugged: the machines that run, so that their cables can carry."""

    plugged: frozenset[str] = frozenset()
    cuts: frozenset[Cut] = frozenset()


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """What the cables must be like.

    up: the ports that are up. drop_from, drop_to: the ports whose frames are dropped entering, leaving the switch.
    lossy: those where some are, both ways.
    shelf: for each controller the ways in which its shelf cable is cut.
    """

    up: frozenset[str]
    drop_from: frozenset[str]
    drop_to: frozenset[str]
    lossy: frozenset[str]
    shelf: dict[Node, frozenset[Way]]


def cut(faults: Faults, link: Link, way: Way) -> Faults:
    return msgspec.structs.replace(faults, cuts=faults.cuts | {Cut(link, way)})


def heal(faults: Faults, link: Link, way: Way) -> Faults:
    """Undo the cut of `link` in that way; "both" undoes every cut of it."""
    gone = {c for c in faults.cuts if c.link == link and way in ("both", c.way)}
    return msgspec.structs.replace(faults, cuts=faults.cuts - gone)


def plug(faults: Faults, machine: str) -> Faults:
    return msgspec.structs.replace(faults, plugged=faults.plugged | {machine})


def unplug(faults: Faults, machine: str) -> Faults:
    return msgspec.structs.replace(faults, plugged=faults.plugged - {machine})


def wiring(faults: Faults) -> Wiring:
    """The cables as they must be under these faults."""
    up = {
        f"{lan}{node}"
        for lan, links in _LANS.items()
        for node in NODES
        if node in faults.plugged and Cut(links[node], "both") not in faults.cuts
    }
    if "client" in faults.plugged:
        up |= {"sC", "tC"}
    if faults.plugged >= set(NODES) and Cut("interlink", "both") not in faults.cuts:
        up |= {"iA", "iB"}
    return Wiring(
        up=frozenset(up),
        drop_from=frozenset(_port(c.link) for c in faults.cuts if c.way == "out" and _port(c.link)),
        drop_to=frozenset(_port(c.link) for c in faults.cuts if c.way == "in" and _port(c.link)),
        lossy=frozenset(_port(c.link) for c in faults.cuts if c.way == "lossy" and _port(c.link)),
        shelf={node: _shelf(faults, node) for node in NODES},
    )


def _port(link: Link) -> str:
    """The switch's port of a cable that carries frames; "" for a shelf cable."""
    ports = {link: f"{lan}{node}" for lan, links in _LANS.items() for node, link in links.items()}
    return (ports | {"interlink": "iA"}).get(link, "")


def _shelf(faults: Faults, node: Node) -> frozenset[Way]:
    ways = {c.way for c in faults.cuts if c.link == _SHELF[node] and c.way != "lossy"}
    if node not in faults.plugged or ways >= {"in", "out"}:
        ways.add("both")
    return frozenset({"both"} if "both" in ways else ways)
