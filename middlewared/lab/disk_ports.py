"""What a reservation does to the two ports of a disk: the port of who does not hold the disk refuses writes.

This is the effect of SCSI's "write exclusive, registrants only" with PREEMPT AND ABORT (SPC-4 5.12.11), on the lab's
loop devices: BLKROSET, which refuses writes on files that are open as well. A free disk refuses nobody.

`follow` returns when nothing of who lost the disk can reach it any more:

    loser     BLKROSET 1      new writes are refused from here on
              BLKFLSBUF       what it wrote before goes to the disk now; the kernel's write-back asks for no permission
              no write is on its way      /sys/block/*/inflight
    holder    BLKFLSBUF       its port forgets what it had read before: the other has written since
              BLKROSET 0

Not handled: a write(2) that passed the kernel's check in the instant before BLKROSET and was not handed on yet.
Needs root. See ioctl numbers in linux/fs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from middlewared.kernel.facts import Node, other

_ROSET = 0x125D
_FLSBUF = 0x1261
_YES, _NO = struct.pack("i", 1), struct.pack("i", 0)

DRAIN_S = 0.5
_POLL_S = 0.001


class DiskPorts:
    """Both ports of one disk: the devices of its parts, or none, where the lab has no devices.

    Raises OSError when one cannot be opened.
    """

    def __init__(self, devices: Mapping[Node, Sequence[Path]]) -> None:
        self._ports = [(node, _Port(part)) for node, parts in devices.items() for part in parts]
        self._owner: Node | None = None
        self._followed = False

    def follow(self, owner: Node | None) -> None:
        """Let exactly those write who may while `owner` holds the disk. Raises OSError; then nobody knows who may."""
        if self._followed and owner == self._owner:
            return
        self._followed = False
        for node, port in self._ports:
            if owner == other(node):
                port.fence()
        for node, port in self._ports:
            if owner != other(node):
                port.open()
        self._owner, self._followed = owner, True


class _Port:
    """One loop device, open for as long as the object is."""

    def __init__(self, device: Path) -> None:
        self._fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        self._inflight = Path("/sys/block") / device.name / "inflight"

    def fence(self) -> None:
        fcntl.ioctl(self._fd, _ROSET, _YES)
        fcntl.ioctl(self._fd, _FLSBUF, 0)
        limit = time.monotonic() + DRAIN_S
        while self._writing():
            if time.monotonic() > limit:
                raise OSError(errno.ETIMEDOUT, f"writes are on their way after {DRAIN_S} s", str(self._inflight))
            time.sleep(_POLL_S)

    def open(self) -> None:
        fcntl.ioctl(self._fd, _FLSBUF, 0)
        fcntl.ioctl(self._fd, _ROSET, _NO)

    def _writing(self) -> bool:
        _, writes = self._inflight.read_text().split()
        return int(writes) > 0
