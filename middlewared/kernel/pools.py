"""What is said of pools, datasets and disks, whatever ZFS they live in. Sizes in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

VdevType: TypeAlias = Literal["STRIPE", "MIRROR", "RAIDZ1", "RAIDZ2", "RAIDZ3"]

MOUNTS = "/mnt"
"""Each pool is mounted at MOUNTS/NAME."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as one controller sees it. serial: the same by both ports. path: its device, on this controller."""

    name: str
    path: str
    serial: str
    size: int


class Vdev(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a pool that is to be made. devices: their paths."""

    type: VdevType
    devices: tuple[str, ...]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool is made of. cache, spares: single disks."""

    data: tuple[Vdev, ...]
    log: tuple[Vdev, ...] = ()
    cache: tuple[str, ...] = ()
    spares: tuple[str, ...] = ()

    def devices(self) -> tuple[str, ...]:
        return (*(path for vdev in (*self.data, *self.log) for path in vdev.devices), *self.cache, *self.spares)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that this controller has imported."""

    name: str
    guid: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A pool on the disks that this controller has not imported.

    foreign: it was not exported, so some other system may have it imported at this moment. last_used_by: the host name
    of that system, where it is known. devices: the paths of the disks that are there.
    """

    name: str
    guid: str
    status: str
    foreign: bool
    last_used_by: str | None
    devices: tuple[str, ...]


class VdevHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a pool, as ZFS sees it. type: DISK for a leaf. path: of a leaf's device, else None."""

    name: str
    type: str
    path: str | None
    status: str
    read_errors: int
    write_errors: int
    checksum_errors: int
    children: tuple[VdevHealth, ...] = ()

    def leaves(self) -> Iterator[VdevHealth]:
        if self.type == "DISK":
            yield self
        for child in self.children:
            yield from child.leaves()


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    data: tuple[VdevHealth, ...] = ()
    log: tuple[VdevHealth, ...] = ()
    cache: tuple[VdevHealth, ...] = ()
    spare: tuple[VdevHealth, ...] = ()

    def leaves(self) -> tuple[VdevHealth, ...]:
        parts = (*self.data, *self.log, *self.cache, *self.spare)
        return tuple(leaf for part in parts for leaf in part.leaves())


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """The last scrub or resilver. percent: done so far. errors: found by it, once it is over."""

    function: Literal["SCRUB", "RESILVER"] | None = None
    state: Literal["NONE", "SCANNING", "FINISHED", "CANCELED"] = "NONE"
    percent: float = 0.0
    errors: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """An imported pool at this moment.

    status: ONLINE, DEGRADED, UNAVAIL, SUSPENDED: it has stopped, because its disks refuse, or FAULTED: writes to it
    landed nowhere. detail: what ZFS says about it, "" where it says nothing. mounted: its own dataset is mounted where
    it should be.
    """

    name: str
    guid: str
    status: str
    detail: str
    size: int
    allocated: int
    free: int
    topology: Topology
    scan: Scan
    data_errors: int
    mounted: bool

    @property
    def healthy(self) -> bool:
        return self.status == "ONLINE" and self.data_errors == 0


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """A property of a dataset. source: LOCAL, DEFAULT, INHERITED, or NONE for what only tells."""

    value: str
    source: Literal["LOCAL", "DEFAULT", "INHERITED", "NONE"]


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset. id: its whole name. mounted: it is there in the file system, at its mountpoint."""

    id: str
    used: int
    available: int
    mountpoint: str | None
    mounted: bool
    properties: dict[str, Property]

    @property
    def pool(self) -> str:
        return self.id.partition("/")[0]
