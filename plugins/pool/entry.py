"""A pool as clients know it. Pure."""

from __future__ import annotations

import msgspec

from middlewared.kernel.pools import MOUNTS, Health, Scan, VdevHealth

from .pool import Pool


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    read_errors: int
    write_errors: int
    checksum_errors: int


class VdevEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the pool. path, device, disk: of a single disk, else null."""

    name: str
    type: str
    path: str | None
    device: str | None
    disk: str | None
    status: str
    stats: Stats
    children: tuple[VdevEntry, ...]


class TopologyEntry(msgspec.Struct, frozen=True, kw_only=True):
    data: tuple[VdevEntry, ...]
    log: tuple[VdevEntry, ...]
    cache: tuple[VdevEntry, ...]
    spare: tuple[VdevEntry, ...]
    special: tuple[VdevEntry, ...] = ()
    dedup: tuple[VdevEntry, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """imported: on the controller that answers. What only ZFS knows is null where the pool is not imported there.

    status: as ZFS tells it, OFFLINE where it is not imported, UNKNOWN where ZFS does not answer. warning: it works, and
    something is the matter. disks: the serial numbers of its disks.
    """

    id: int
    name: str
    guid: str
    path: str
    status: str
    status_detail: str | None
    imported: bool
    healthy: bool | None = None
    warning: bool = False
    topology: TopologyEntry | None = None
    scan: Scan | None = None
    size: int | None = None
    allocated: int | None = None
    free: int | None = None
    disks: tuple[str, ...]


def present(pool: Pool, health: Health) -> Entry:
    """A pool that is imported here."""
    topology = health.topology
    detail = health.detail if health.mounted else f"Its dataset is not mounted at {MOUNTS}/{pool.name}. {health.detail}"
    return Entry(
        id=pool.id,
        name=pool.name,
        guid=pool.guid,
        path=f"{MOUNTS}/{pool.name}",
        status=health.status,
        status_detail=detail.strip() or None,
        imported=True,
        healthy=health.healthy and health.mounted,
        warning=health.healthy and bool(detail),
        topology=TopologyEntry(
            data=tuple(map(_vdev, topology.data)),
            log=tuple(map(_vdev, topology.log)),
            cache=tuple(map(_vdev, topology.cache)),
            spare=tuple(map(_vdev, topology.spare)),
        ),
        scan=health.scan,
        size=health.size,
        allocated=health.allocated,
        free=health.free,
        disks=pool.disks,
    )


def absent(pool: Pool, status: str) -> Entry:
    """A pool that is not imported here. status: of this controller, as `failover.status` tells it."""
    if status == "BACKUP":
        return _without(pool, "OFFLINE", "Not imported here: this controller stands by")
    return _without(pool, "OFFLINE", "Not imported here", healthy=False)


def unknown(pool: Pool, why: str) -> Entry:
    """A pool for which ZFS does not answer."""
    return _without(pool, "UNKNOWN", why)


def _without(pool: Pool, status: str, why: str, healthy: bool | None = None) -> Entry:
    return Entry(
        id=pool.id,
        name=pool.name,
        guid=pool.guid,
        path=f"{MOUNTS}/{pool.name}",
        status=status,
        status_detail=why,
        imported=False,
        healthy=healthy,
        disks=pool.disks,
    )


def _vdev(vdev: VdevHealth) -> VdevEntry:
    name = vdev.path.removeprefix("/dev/") if vdev.path is not None else None
    return VdevEntry(
        name=vdev.name,
        type=vdev.type,
        path=vdev.path,
        device=name,
        disk=name,
        status=vdev.status,
        stats=Stats(read_errors=vdev.read_errors, write_errors=vdev.write_errors, checksum_errors=vdev.checksum_errors),
        children=tuple(map(_vdev, vdev.children)),
    )
