"""ports.Disks: the shared disks as this controller sees them, one for each device in a directory.

The serial number is what makes one disk of two devices. The kernel tells it in sysfs (SCSI: page 0x80, NVMe, virtio); a
loop device keeps a name of 64 bytes with it, by which the lab gives its disks theirs (LOOP_GET_STATUS64, loop(4)).

A disk is there when its beginning can be read, past the page cache: a device may outlive what it leads to.

Not handled: a disk that is reached by two paths is told once, by the name that sorts first.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import stat
import struct
from pathlib import Path

from middlewared.kernel.pools import Disk

_GET_SIZE64 = 0x80081272
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_MAJOR = 7
# struct loop_info64: device, inode, rdevice, offset, sizelimit, number, 2 x encryption, flags, 2 names, key, 2 x init
_LOOP_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_PARTITION = "-part"
_BEGINNING = 4096


class BlockDisks:
    """directory: as /dev/disk/by-id; links are followed. sysfs: where the kernel tells of devices."""

    def __init__(self, directory: Path, sysfs: Path = Path("/sys/dev/block")) -> None:
        self._directory = directory
        self._sysfs = sysfs

    async def list(self) -> tuple[Disk, ...]:
        """Opening a device may wait for it, so it is done beside the loop."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> tuple[Disk, ...]:
        seen: dict[int, Disk] = {}
        try:
            entries = sorted(self._directory.iterdir(), key=lambda path: (len(path.name), path.name))
        except OSError:
            return ()
        for entry in entries:
            if _PARTITION in entry.name:
                continue
            try:
                device = entry.resolve(strict=True)
                number = device.stat()
                if stat.S_ISBLK(number.st_mode) and number.st_rdev not in seen:
                    seen[number.st_rdev] = self._disk(entry, device, number.st_rdev)
            except OSError:
                continue  # it went while we looked, or is broken: it is not told
        return tuple(seen.values())

    def _disk(self, entry: Path, device: Path, number: int) -> Disk:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        try:
            _read_beginning(fd)
            (size,) = struct.unpack("=Q", fcntl.ioctl(fd, _GET_SIZE64, bytes(8)))
            is_loop = os.major(number) == _LOOP_MAJOR
            serial = _loop_serial(fd) if is_loop else serial_in(self._sysfs / f"{os.major(number)}:{os.minor(number)}")
        finally:
            os.close(fd)
        return Disk(name=str(device.relative_to("/dev")), path=str(entry), serial=serial, size=size)


def serial_in(sysfs: Path) -> str:
    """The serial number in a device's directory of sysfs; "" where it tells none."""
    for name in ("device/vpd_pg80", "device/serial", "serial"):
        try:
            told = (sysfs / name).read_bytes()
        except OSError:
            continue
        # The page begins with four bytes about itself.
        return (told[4:] if name.endswith("pg80") else told).decode(errors="replace").strip(" \n\0")
    return ""


def _read_beginning(fd: int) -> None:
    """Raises OSError where the disk does not answer, or ends before."""
    with mmap.mmap(-1, _BEGINNING) as page:  # aligned, as O_DIRECT wants it
        if os.preadv(fd, [page], 0) < _BEGINNING:
            raise OSError(errno.EIO, "the disk ends at once")


def _loop_serial(fd: int) -> str:
    fields = _LOOP_INFO.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO.size)))
    name: bytes = fields[9]
    return name.rstrip(b"\0").decode(errors="replace")
