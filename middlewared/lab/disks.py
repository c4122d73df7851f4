"""The shared disks of the lab: a file each, with two ports, and two parts at each port as of a disk with partitions.

    /dev/slots/N   the first MiB: record and heartbeats (protocol/slots.py)
    /dev/shelf/N   the rest: for pools

A part is a loop device, so a disk has four of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from middlewared.kernel.facts import Node
from middlewared.lab import loops
from middlewared.lab.faults import NODES
from middlewared.lab.loops import Loop, Part
from middlewared.lab.own import Bind
from middlewared.protocol.slots import AREA_BYTES

SLOTS = "/dev/slots"
DATA = "/dev/shelf"
DATA_BYTES = loops.DISK_BYTES - AREA_BYTES


class DiskPort:
    """One controller's port of one disk. Raises PortFailed when it cannot be attached."""

    def __init__(self, image: Path, number: int, serial: str) -> None:
        self._number = number
        self._slots = Loop(image, f"{serial}-slots", Part(size=AREA_BYTES))
        self._data = Loop(image, serial, Part(start=AREA_BYTES))

    @property
    def devices(self) -> tuple[Path, Path]:
        return self._slots.path, self._data.path

    @property
    def binds(self) -> list[Bind]:
        seen = (f"{SLOTS}/{self._number}", f"{DATA}/{self._number}")
        return [Bind(str(device), target) for device, target in zip(self.devices, seen, strict=True)]

    def cut(self, yes: bool) -> None:
        """A cut port ends after one sector."""
        for part in (self._slots, self._data):
            part.limit(loops.ONE_SECTOR if yes else 0)

    def close(self) -> None:
        self._slots.close()
        self._data.close()


def attach(images: Sequence[Path], serials: Sequence[str]) -> dict[Node, list[DiskPort]]:
    """Both ports of every disk, where this user may have loop devices. Raises PortFailed."""
    if not loops.possible():
        return {node: [] for node in NODES}
    for image in images:
        loops.make_image(image)
    disks = list(zip(images, serials, strict=True))
    return {node: [DiskPort(image, n, serial) for n, (image, serial) in enumerate(disks)] for node in NODES}
