"""What one side of a world sees of it, each fact true or unknown.

What does not reach a side is left out of what it sees, so that many worlds look the same from one side: `key_of` says
which do, and a view is made and decided once for each key.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import msgspec

from middlewared.kernel.facts import Node
from middlewared.protocol.failover_view import View, Windows
from middlewared.protocol.hub import Heard, PeerWord, Settings, VoterState
from tests.protocol.failover_views import settings, view, word
from tests.protocol.worlds.world import SIDES, Held, Power, World

NOW = 1000.0
LONG_AGO = NOW - 100.0
FRESH_S = 0.02
YOUNG_S = 0.05
"""The age of a channel that has just begun to be watched."""

FAULT = "a pool lacks its disks"


class Known(NamedTuple):
    """Which facts are known. carpd: "all", "young" (it began a moment ago: its channels are unknown), or "none" (it is
    gone). disks: the same of reading the disks."""

    carpd: str
    disks: str


KNOWN = tuple(Known(carpd, disks) for carpd in ("all", "young", "none") for disks in ("all", "young", "none"))


class Word(NamedTuple):
    """What the peer's heartbeat says."""

    owner: bool
    term: int
    links_up: bool
    hears_us: bool
    settled: bool
    resigned: bool
    disks_ok: bool
    failed: bool
    held: bool


class Key(NamedTuple):
    """All that one side can see, as far as its channels carry it."""

    node: Node
    default: Node
    disabled: bool
    settled: bool
    believes: int
    owned: int
    begins: bool
    forced: bool
    resigned: bool
    failed: bool
    held: bool
    fault: bool
    flapping: bool
    cable: bool
    disks: tuple[Held, Held, Held] | None
    confirmed: bool
    peer_beats: bool
    word: Word | None
    advert: bool
    carrier: bool
    links_up: bool
    since_s: float


def key_of(world: World, side: int) -> Key:
    peer = 1 - side
    own, odd = world.ownership, world.odd
    cable, term = world.cable[side], own.believes[side]
    peer_runs = world.power[peer].value > 1
    return Key(
        node=SIDES[side],
        default=odd.default,
        disabled=odd.disabled,
        settled=world.power[side] is Power.UP,
        believes=term,
        owned=own.owned[side],
        begins=odd.begins and bool(term),
        forced=odd.forced[side],
        resigned=own.resigned[side],
        failed=odd.failed[side],
        held=odd.held[side],
        fault=odd.fault[side],
        flapping=odd.flapping and bool(term),
        cable=cable,
        disks=own.disks if cable else None,
        confirmed=bool(term) and world.beats(side),
        peer_beats=not term and cable and world.beats(peer),
        word=_word_of(world, peer) if peer_runs and world.interlink.passes[peer] else None,
        advert=peer_runs and bool(own.believes[peer]) and world.lan.passes[peer],
        carrier=world.interlink.carrier,
        links_up=world.lan.links[side],
        since_s=world.since_s,
    )


def _word_of(world: World, side: int) -> Word:
    own, odd = world.ownership, world.odd
    hears_us = world.interlink.passes[1 - side] and world.runs(1 - side)
    return Word(
        owner=bool(own.believes[side]),
        term=own.believes[side] or 4,
        links_up=world.lan.links[side],
        hears_us=hears_us,
        settled=world.power[side] is Power.UP or hears_us,
        resigned=own.resigned[side],
        disks_ok=world.cable[side] and not odd.fault[side],
        failed=odd.failed[side],
        held=odd.held[side],
    )


def view_of(key: Key, known: Known) -> View:
    """What is seen, with the ages that follow. Only what is silent has the age of the world."""
    then = NOW - key.since_s
    readable = key.cable and known.disks != "none"
    disk_at = NOW - YOUNG_S if key.peer_beats else then
    if known.disks == "young" and not key.peer_beats:
        disk_at = LONG_AGO
    return view(
        node=key.node,
        windows=WINDOWS,
        settings=_settings(key.default, key.disabled),
        booted_at=then,
        settled=key.settled,
        owns=key.believes > 0,
        term=key.believes or 5,
        confirmed_at=NOW - YOUNG_S if key.confirmed and known.disks == "all" else then,
        owned_term=key.owned,
        begins=key.begins,
        forced=key.forced,
        resigned_at=then if key.resigned else None,
        voters=_voters(key.disks, readable),
        heard=None if known.carpd == "none" else _heard(key, known.carpd == "young"),
        heard_since=None if known.carpd == "none" else LONG_AGO,
        disk_at=None if key.believes else disk_at,
        disk_since=_disk_since(known.disks) if readable else None,
        peer_idle_since=then if known.carpd == "all" and key.word is not None and not key.word.owner else None,
        peer_sees_since=then if known.carpd == "all" and key.word is not None and key.word.disks_ok else None,
        disks_asked=known.disks != "none",
        fault=FAULT if key.fault else None,
        failed_at=then if key.failed else None,
        ended_often=key.held,
        moves=(NOW - 90.0, NOW - 80.0, NOW - 70.0) if key.flapping else (),
    )


WINDOWS = Windows()


def _disk_since(known: str) -> float:
    return NOW - YOUNG_S if known == "young" else LONG_AGO


@cache
def _settings(default: Node, disabled: bool) -> Settings:
    return settings(default_node=default, disabled=disabled, timeout_s=0.0)


@cache
def _voters(disks: tuple[Held, Held, Held] | None, readable: bool) -> tuple[VoterState, ...]:
    held = disks if disks is not None and readable else (Held(None, 0),) * 3
    return tuple(
        VoterState(name=str(number), reachable=readable, term=one.term, owner=one.owner)
        for number, one in enumerate(held)
    )


def _heard(key: Key, young: bool) -> Heard:
    then = NOW - key.since_s
    silent = None if young else then
    return Heard(
        since=NOW - YOUNG_S if young else LONG_AGO,
        interlink_at=NOW - FRESH_S if key.word is not None and not young else silent,
        advert_at=NOW - FRESH_S if key.advert and not young else silent,
        carrier=key.carrier,
        carrier_since=then,
        links_up=key.links_up,
        links_since=then,
        peer=_peer_word(key.word) if key.word is not None else word(),
    )


@cache
def _peer_word(said: Word) -> PeerWord:
    return msgspec.structs.replace(word(), **said._asdict())
