"""Pools on disks that two controllers share, in memory: ports.PoolStore for the simulator and for the tests of plugins.

`PoolDisks` is what both controllers reach, `MemoryPools` one controller's ZFS over it. As with the real one, only who
imports keeps two from having one pool imported at once: `PoolDisks.importers` says who has it at this instant, which is
what a checker asks. What a controller has imported is its own memory, and gone when it loses power.

Not modelled: what is written into a dataset, wear, parts of a pool that fail by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import (
    MOUNTS,
    Dataset,
    Disk,
    Found,
    Health,
    Imported,
    Layout,
    Property,
    Scan,
    Topology,
    Vdev,
    VdevHealth,
)

DISK_BYTES = 1 << 30


class _Pool(msgspec.Struct):
    """A pool as it stands on its disks. user: the host that has it imported, as its label says; None: exported."""

    name: str
    guid: str
    layout: Layout
    user: str | None
    scan: Scan = Scan()
    datasets: dict[str, dict[str, str]] = {}


def _takes_all(_host: str, _path: str) -> bool | None:
    return True


class PoolDisks:
    """The shared disks. cut: hosts whose ports are cut. importers: guid -> the hosts that have it imported now.

    writable: whether a host's writes to a disk land: it may be reserved for another. None: the host does not reach it.
    """

    def __init__(self, count: int = 6, writable: Callable[[str, str], bool | None] = _takes_all) -> None:
        self.disks = tuple(
            Disk(name=f"shelf/{n}", path=f"/dev/shelf/{n}", serial=f"SHELF-{n}", size=DISK_BYTES) for n in range(count)
        )
        self.pools: dict[str, _Pool] = {}
        self.cut: set[str] = set()
        self.importers: dict[str, set[str]] = {}
        self.writable = writable
        self._guids = 1000

    def lay_out(self, name: str, layout: Layout) -> str:
        """Put a pool there that nobody has imported. Returns its guid."""
        self._guids += 1
        pool = _Pool(name, str(self._guids), layout, None, datasets={name: {}})
        self.pools[pool.guid] = pool
        return pool.guid

    def holder_of(self, path: str) -> _Pool | None:
        return next((pool for pool in self.pools.values() if path in pool.layout.devices()), None)


class MemoryDisks:
    """ports.Disks of one host."""

    def __init__(self, shared: PoolDisks, host: str) -> None:
        self._shared, self._host = shared, host

    async def list(self) -> tuple[Disk, ...]:
        return () if self._host in self._shared.cut else self._shared.disks


class MemoryPools:
    """One controller's ZFS. host: its name, which its imports leave in the labels."""

    def __init__(self, shared: PoolDisks, host: str) -> None:
        self._shared, self._host = shared, host
        self._imported: dict[str, _Pool] = {}

    def lose_power(self) -> None:
        for pool in self._imported.values():
            self._shared.importers[pool.guid].discard(self._host)
        self._imported.clear()

    async def imported(self) -> tuple[Imported, ...]:
        return tuple(Imported(name=pool.name, guid=pool.guid) for pool in self._imported.values())

    async def found(self) -> tuple[Found, ...]:
        if self._host in self._shared.cut:
            return ()
        return tuple(
            Found(
                name=pool.name,
                guid=pool.guid,
                status="ONLINE",
                foreign=pool.user not in (None, self._host),
                last_used_by=pool.user if pool.user != self._host else None,
                devices=pool.layout.devices(),
            )
            for pool in self._shared.pools.values()
            if pool.name not in self._imported
        )

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        purpose = f"import pool {guid}"
        self._reach(purpose)
        pool = self._shared.pools.get(guid)
        if pool is not None:
            self._may_write(purpose, pool)
        if pool is None or pool.name in self._imported:
            raise PortFailed(purpose, "no such pool available")
        if pool.user not in (None, self._host) and not force:
            raise PortFailed(purpose, f"pool may be in use from other system, it was last accessed by {pool.user}")
        self._take(pool)

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        purpose = f"export pool {name}"
        pool = self._get(purpose, name)
        self._reach(purpose)
        self._may_write(purpose, pool)
        pool.user = None
        self._drop(pool)

    async def create(self, name: str, layout: Layout, *, force: bool = False) -> str:
        purpose = f"create pool {name}"
        self._reach(purpose)
        if name in self._imported:
            raise PortFailed(purpose, "pool already exists")
        present = {disk.path for disk in self._shared.disks}
        for path in layout.devices():
            if path not in present:
                raise PortFailed(purpose, f"cannot open '{path}': No such file or directory")
            if (holder := self._shared.holder_of(path)) is not None:
                if not force or holder.name in self._imported:
                    raise PortFailed(purpose, f"{path} is part of pool '{holder.name}'")
                del self._shared.pools[holder.guid]
        guid = self._shared.lay_out(name, layout)
        self._take(self._shared.pools[guid])
        return guid

    async def destroy(self, name: str) -> None:
        pool = self._get(f"destroy pool {name}", name)
        del self._shared.pools[pool.guid]
        self._drop(pool)

    async def health(self, name: str) -> Health:
        pool = self._get(f"ask how {name} is", name)
        size = DISK_BYTES * sum(len(vdev.devices) if vdev.type == "STRIPE" else 1 for vdev in pool.layout.data)
        return Health(
            name=name,
            guid=pool.guid,
            status=self._status(pool),
            detail="",
            size=size,
            allocated=0,
            free=size,
            topology=_topology(pool.layout),
            scan=pool.scan,
            data_errors=0,
            mounted=True,
        )

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        pool = self._get(f"scrub {name}", name)
        if not stop:
            pool.scan = Scan(function="SCRUB", state="FINISHED", percent=100.0)

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        scan = (await self.health(name)).scan
        told(scan)
        return scan

    async def datasets(self, pool: str) -> tuple[Dataset, ...]:
        kept = self._get(f"list the datasets of {pool}", pool).datasets
        return tuple(
            Dataset(
                id=id_,
                used=0,
                available=DISK_BYTES,
                mountpoint=MOUNTS + properties.get("mountpoint", f"/{id_}"),
                mounted=True,
                properties={"type": Property(value="filesystem", source="NONE")}
                | {name: Property(value=value, source="LOCAL") for name, value in properties.items()},
            )
            for id_, properties in sorted(kept.items())
        )

    async def create_dataset(self, id: str, properties: Mapping[str, str]) -> None:  # noqa: A002
        purpose = f"create dataset {id}"
        kept = self._get(purpose, id.partition("/")[0]).datasets
        if id in kept:
            raise PortFailed(purpose, "dataset already exists")
        if id.rpartition("/")[0] not in kept:
            raise PortFailed(purpose, "parent does not exist")
        kept[id] = dict(properties)

    async def set_dataset(self, id: str, properties: Mapping[str, str | None]) -> None:  # noqa: A002
        kept = self._dataset(f"change dataset {id}", id)
        for name, value in properties.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value

    async def destroy_dataset(self, id: str, *, recursive: bool = False) -> None:  # noqa: A002
        purpose = f"delete dataset {id}"
        self._dataset(purpose, id)
        kept = self._get(purpose, id.partition("/")[0]).datasets
        below = [other for other in kept if other.startswith(id + "/")]
        if below and not recursive:
            raise PortFailed(purpose, "filesystem has children")
        for gone in (id, *below):
            del kept[gone]

    def _take(self, pool: _Pool) -> None:
        pool.user = self._host
        self._imported[pool.name] = pool
        self._shared.importers.setdefault(pool.guid, set()).add(self._host)

    def _drop(self, pool: _Pool) -> None:
        del self._imported[pool.name]
        self._shared.importers[pool.guid].discard(self._host)

    def _get(self, purpose: str, name: str) -> _Pool:
        if name not in self._imported:
            raise PortFailed(purpose, "it is not imported here")
        return self._imported[name]

    def _dataset(self, purpose: str, id_: str) -> dict[str, str]:
        kept = self._get(purpose, id_.partition("/")[0]).datasets
        if id_ not in kept:
            raise PortFailed(purpose, "dataset does not exist")
        return kept[id_]

    def _status(self, pool: _Pool) -> str:
        lands = any(self._shared.writable(self._host, path) for path in pool.layout.devices())
        return "ONLINE" if lands and self._host not in self._shared.cut else "SUSPENDED"

    def _may_write(self, purpose: str, pool: _Pool) -> None:
        """A pool goes on, degraded, with one disk of a mirror: so does this."""
        if not any(self._shared.writable(self._host, path) for path in pool.layout.devices()):
            raise PortFailed(purpose, "I/O error")

    def _reach(self, purpose: str) -> None:
        if self._host in self._shared.cut:
            raise PortFailed(purpose, "I/O error")


def _topology(layout: Layout) -> Topology:
    def vdevs(parts: Sequence[Vdev]) -> tuple[VdevHealth, ...]:
        made: list[VdevHealth] = []
        for number, part in enumerate(parts):
            leaves = tuple(map(_leaf, part.devices))
            group = f"{part.type.lower()}-{number}"
            made += leaves if part.type == "STRIPE" else [_health(group, part.type, None, leaves)]
        return tuple(made)

    return Topology(
        data=vdevs(layout.data),
        log=vdevs(layout.log),
        cache=tuple(map(_leaf, layout.cache)),
        spare=tuple(map(_leaf, layout.spares)),
    )


def _leaf(path: str) -> VdevHealth:
    return _health(path.removeprefix("/dev/"), "DISK", path)


def _health(name: str, type_: str, path: str | None, children: tuple[VdevHealth, ...] = ()) -> VdevHealth:
    return VdevHealth(
        name=name,
        type=type_,
        path=path,
        status="ONLINE",
        read_errors=0,
        write_errors=0,
        checksum_errors=0,
        children=children,
    )
