"""`disk.query`: the shared disks, as each of the two controllers sees them, and what they are used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from middlewared.kernel.errors import CallFailed, PortFailed
from middlewared.kernel.facts import Node, other
from middlewared.kernel.pools import Disk
from middlewared.plugin import Call, PeerCall, peer, query
from middlewared.plugin.filters import Filters, Options, pick

from . import pool
from .stray import strays

SEEN_HERE = "disk.seen_here"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller knows of a disk. seen None: it could not be asked, and `why` says why."""

    seen: bool | None
    name: str | None = None
    path: str | None = None
    size: int | None = None
    why: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as clients know it. name, size: of the controller that answers, else of the other.

    pool: the pool of this pair that it belongs to. exported_zpool: one that lies on it and is none of this pair's, also
    where it is imported here and was left out of the configuration.
    """

    identifier: str
    name: str
    devname: str
    serial: str
    size: int
    pool: str | None
    exported_zpool: str | None
    nodes: Mapping[Node, Sight]


@query("disk.query", roles=("DISK_READ",))
async def query_disks(call: Call, filters: Filters = [], options: Options = Options()) -> object:  # noqa: B006, B008
    """The shared disks: serial, size, pool, and in `nodes` whether each controller sees them."""
    theirs, why = await peers_disks(call)
    entries = _entries(call.node, await call.controller.disks.list(), theirs, why, await uses(call))
    return pick([msgspec.to_builtins(entry) for entry in entries], filters, options)


@peer(SEEN_HERE)
async def seen_here(call: PeerCall) -> list[Disk]:
    """The shared disks that this controller sees."""
    return list(await call.controller.disks.list())


async def peers_disks(call: Call) -> tuple[tuple[Disk, ...] | None, str | None]:
    """The disks that the other controller sees; or None, and why it cannot be told."""
    try:
        return msgspec.convert(await call.controller.ask_peer(SEEN_HERE), tuple[Disk, ...]), None
    except CallFailed as e:
        return None, e.reason


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """serial -> the name of the pool of this pair; path -> the name of another one; of one that is imported here."""

    ours: Mapping[str, str]
    others: Mapping[str, str]
    strays: Mapping[str, str]


async def uses(call: Call) -> Uses:
    """What the disks are used for, as far as this controller can look."""
    state = call.state(pool.NOUN)
    ours = {serial: one.name for one in state.pools for serial in one.disks}
    known = {one.guid for one in state.pools}
    try:
        here = await strays(call)
        found = await call.controller.pools.found() if call.controller.pools is not None else ()
    except PortFailed:
        here, found = [], ()
    return Uses(
        ours=ours,
        others={path: one.name for one in found if one.guid not in known for path in one.devices},
        strays={leaf.path: one.name for one in here for leaf in one.topology.leaves() if leaf.path is not None},
    )


def _entries(
    node: Node, here: Sequence[Disk], there: Sequence[Disk] | None, why: str | None, used: Uses
) -> list[Entry]:
    """Every disk that either controller sees, by its serial."""
    mine, theirs = ({disk.serial or disk.path: disk for disk in disks} for disks in (here, there or ()))
    entries = []
    for serial in [*mine, *(serial for serial in theirs if serial not in mine)]:
        disk = mine.get(serial) or theirs[serial]
        sights = {node: _sight(mine.get(serial)), other(node): _sight(theirs.get(serial))}
        if there is None:
            sights[other(node)] = Sight(seen=None, why=why)
        entries.append(
            Entry(
                identifier=f"{{serial}}{disk.serial}",
                name=disk.name,
                devname=disk.name,
                serial=disk.serial,
                size=disk.size,
                pool=used.ours.get(serial),
                exported_zpool={**used.others, **used.strays}.get(disk.path) if serial in mine else None,
                nodes={"A": sights["A"], "B": sights["B"]},
            )
        )
    return entries


def _sight(disk: Disk | None) -> Sight:
    return Sight(seen=False) if disk is None else Sight(seen=True, name=disk.name, path=disk.path, size=disk.size)


METHODS = (query_disks,)
PEER = (seen_here,)
