"""A stray: a pool on shared disks that is imported here and that the configuration does not know.

ZFS is first and the log comes after it, so whoever ends between the two leaves a stray, and so does a ZFS that made a
pool and then did not answer. Nobody else can have it while it is here, and it is served to nobody. `pool.import_find`
shows it; `pool.import_pool`, or `pool.create` of the same name and parts, takes it up as it is: it is imported already,
and what was made is not made again. It goes as the others go: a handover exports it, and then it lies on the disks.

A pool of which no disk is shared is none: it is this controller's own.

Not handled: a stray of another shape than a `pool.create` asks for is not replaced, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from middlewared.kernel.pools import Health, Layout, Topology, Vdev, VdevHealth
from middlewared.plugin import Call

from . import pool


async def strays(call: Call) -> list[Health]:
    """Raises PortFailed."""
    store = call.controller.pools
    if store is None:
        return []
    known = {one.guid for one in call.state(pool.NOUN).pools}
    unknown = [await store.health(one.name) for one in await store.imported() if one.guid not in known]
    shared = {disk.path for disk in await call.controller.disks.list()} if unknown else set()
    return [health for health in unknown if any(leaf.path in shared for leaf in health.topology.leaves())]


def is_made_so(topology: Topology, layout: Layout) -> bool:
    """Whether a pool has just these parts, each of just these disks."""
    found = [sorted(map(_found, vdevs)) for vdevs in (topology.data, topology.log, topology.cache, topology.spare)]
    single = (Vdev(type="STRIPE", devices=layout.cache), Vdev(type="STRIPE", devices=layout.spares))
    return found == [sorted(_asked(vdevs)) for vdevs in (layout.data, layout.log, single[:1], single[1:])]


def _found(vdev: VdevHealth) -> tuple[str, list[str]]:
    return vdev.type, sorted(leaf.path or leaf.name for leaf in vdev.leaves())


def _asked(vdevs: Sequence[Vdev]) -> Iterator[tuple[str, list[str]]]:
    for vdev in vdevs:
        if vdev.type == "STRIPE":
            yield from (("DISK", [path]) for path in vdev.devices)
        else:
            yield vdev.type, sorted(vdev.devices)
