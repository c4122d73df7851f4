"""What `pool.create` is asked for, and what is wrong with it: every fault at once, under the name of its field. Pure.

A disk is named by its serial number, or by the name or path that the controller which is asked has for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from middlewared.kernel.errors import Refused
from middlewared.kernel.pools import Disk, Layout, Vdev, VdevType

from .pool import Pools, why_no_name

FEWEST: Mapping[VdevType, int] = {"STRIPE": 1, "MIRROR": 2, "RAIDZ1": 3, "RAIDZ2": 4, "RAIDZ3": 5}


class VdevRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: VdevType
    disks: tuple[str, ...]


class TopologyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """data: what the pool is made of. log, cache: as data; a cache is never a mirror. spares: single disks."""

    data: tuple[VdevRequest, ...] = ()
    log: tuple[VdevRequest, ...] = ()
    cache: tuple[VdevRequest, ...] = ()
    spares: tuple[str, ...] = ()


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """force: a stripe, which is lost with any disk; disks that hold a pool, or that the other controller misses."""

    name: str
    topology: TopologyRequest
    force: bool = False


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """The disks as they stand. in_use: serial -> the pool that it belongs to, of this pair. holding: serial -> the pool
    that lies on it and is none of this pair's. theirs: the serials that the other controller sees; None: not known.
    """

    disks: tuple[Disk, ...]
    in_use: Mapping[str, str]
    holding: Mapping[str, str]
    theirs: frozenset[str] | None

    def find(self, word: str) -> Disk | None:
        named = [disk for disk in self.disks if word in (disk.serial, disk.name, disk.path)]
        return named[0] if word and named else None


def laid_out(request: CreateRequest, shelf: Shelf, state: Pools) -> tuple[Layout, tuple[str, ...]]:
    """The layout, and the serials of its disks. Raises Refused with every fault."""
    chosen: dict[str, Disk] = {}
    problems = [*_names(request.name, state), *_kinds(request), *_disks(request, shelf, chosen)]
    if problems:
        raise Refused(*problems)
    topology = request.topology

    def device(word: str) -> str:
        return chosen[word].path

    def vdevs(parts: Sequence[VdevRequest]) -> tuple[Vdev, ...]:
        return tuple(Vdev(type=part.type, devices=tuple(map(device, part.disks))) for part in parts)

    layout = Layout(
        data=vdevs(topology.data),
        log=vdevs(topology.log),
        cache=tuple(device(word) for part in topology.cache for word in part.disks),
        spares=tuple(map(device, topology.spares)),
    )
    return layout, tuple(disk.serial for disk in chosen.values())


def _names(name: str, state: Pools) -> Iterator[tuple[str, str]]:
    why = why_no_name(name)
    if why is None and state.named(name) is not None:
        why = f"there is a pool {name} already"
    if why is not None:
        yield "name", why


def _kinds(request: CreateRequest) -> Iterator[tuple[str, str]]:
    topology = request.topology
    if not topology.data:
        yield "topology.data", "a pool needs at least one part that holds data"
    for kind, parts in (("data", topology.data), ("log", topology.log), ("cache", topology.cache)):
        for number, part in enumerate(parts):
            where = f"topology.{kind}.{number}"
            if len(part.disks) < FEWEST[part.type]:
                yield f"{where}.disks", f"{part.type} needs {FEWEST[part.type]} disks or more, not {len(part.disks)}"
            if kind == "data" and part.type == "STRIPE" and not request.force:
                yield (
                    f"{where}.type",
                    "a STRIPE is lost, and the pool with it, with its first disk; `force` takes it",
                )
            if kind == "cache" and part.type != "STRIPE":
                yield f"{where}.type", "a cache is a STRIPE: it holds nothing that could be lost"
            if kind == "log" and part.type not in ("STRIPE", "MIRROR"):
                yield f"{where}.type", "a log is a STRIPE or a MIRROR"


def _disks(request: CreateRequest, shelf: Shelf, chosen: dict[str, Disk]) -> Iterator[tuple[str, str]]:
    """chosen: filled with the disk of each word."""
    taken: dict[str, str] = {}
    for where, word in _words(request.topology):
        disk = shelf.find(word)
        if disk is None:
            yield where, f"there is no disk {word}"
            continue
        chosen[word] = disk
        if disk.path in taken:
            yield where, f"disk {word} is named at {taken[disk.path]} already"
        taken[disk.path] = where
        yield from ((where, why) for why in _why_not(disk, shelf, force=request.force))


def _why_not(disk: Disk, shelf: Shelf, *, force: bool) -> Iterator[str]:
    if not disk.serial:
        yield f"disk {disk.name} tells no serial number, by which the other controller would know it"
    if disk.serial in shelf.in_use:
        yield f"disk {disk.name} belongs to pool {shelf.in_use[disk.serial]}"
    elif disk.serial in shelf.holding and not force:
        yield f"disk {disk.name} holds pool {shelf.holding[disk.serial]}, which can be imported; `force` overwrites it"
    if shelf.theirs is not None and disk.serial not in shelf.theirs and not force:
        yield f"the other controller does not see disk {disk.name} ({disk.serial})"


def _words(topology: TopologyRequest) -> Iterator[tuple[str, str]]:
    for kind, parts in (("data", topology.data), ("log", topology.log), ("cache", topology.cache)):
        for number, part in enumerate(parts):
            yield from ((f"topology.{kind}.{number}.disks.{place}", word) for place, word in enumerate(part.disks))
    yield from ((f"topology.spares.{place}", word) for place, word in enumerate(topology.spares))
