"""Ports of disks: several loop devices over one file, as each controller sees it. See loop(4); needs root.

A cut cable shrinks the controller's device to one sector, so that reads and writes beyond it fail at once, also on
files that are open. The devices detach themselves when the last one who has them open is gone (autoclear), so a bench
that is killed leaves none; `detach_all` is for the case that something else holds one open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple

from middlewared.kernel.errors import PortFailed

CONTROL = Path("/dev/loop-control")
DISK_BYTES = 256 * 1024 * 1024
ONE_SECTOR = 512

_CONFIGURE = 0x4C0A
_CLR_FD = 0x4C01
_SET_STATUS64 = 0x4C04
_GET_STATUS64 = 0x4C05
_GET_FREE = 0x4C82
_SET_READ_ONLY = 0x125D  # BLKROSET
_AUTOCLEAR = 4
_ATTEMPTS = 32

# struct loop_info64: device, inode, rdevice, offset, sizelimit, number, 2 x encryption, flags, 2 names, key, 2 x init
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
# struct loop_config: file, block size, info, reserved
_CONFIG = struct.Struct(f"=2I{_INFO.size}s64x")


class Part(NamedTuple):
    """Bytes of an image, as a partition is of a disk. size 0: to its end."""

    start: int = 0
    size: int = 0


WHOLE = Part()


class Loop:
    """One attached loop device. Open for as long as the object is: closing detaches it."""

    def __init__(self, image: Path, serial: str = "", part: Part = WHOLE) -> None:
        """Attach the next free device to it. serial: the name that the kernel keeps with it. Raises PortFailed."""
        self._serial = serial
        self._part = part
        try:
            self._image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
            self.path, self._fd = _attach(self._image, serial, part)
        except OSError as e:
            raise PortFailed(f"attach a loop device to {image}", e.strerror or str(e)) from None

    def limit(self, size: int) -> None:
        """Let the device end after `size` bytes; 0: where its part ends. Raises PortFailed."""
        part = Part(start=self._part.start, size=size or self._part.size)
        try:
            fcntl.ioctl(self._fd, _SET_STATUS64, _info(self._serial, part))
        except OSError as e:
            raise PortFailed(f"limit {self.path}", e.strerror or str(e)) from None

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._image)


def possible() -> bool:
    """Whether this machine lets us attach loop devices."""
    return CONTROL.exists() and os.access(CONTROL, os.R_OK | os.W_OK)


def make_image(image: Path) -> None:
    """A sparse file of a disk's size, unless it is there already."""
    with image.open("ab") as file:
        file.truncate(DISK_BYTES)


def detach_all(images: list[Path]) -> list[Path]:
    """Detach every loop device whose file is one of `images`; returns what stays attached because it is in use."""
    wanted = {(s.st_dev, s.st_ino) for s in (image.stat() for image in images if image.exists())}
    busy = []
    for entry in Path("/sys/block").glob("loop[0-9]*"):
        device = Path("/dev") / entry.name
        if wanted and (entry / "loop").exists() and _backing(device) in wanted and not _clear(device):
            busy.append(device)
    return busy


def _attach(image: int, serial: str, part: Part) -> tuple[Path, int]:
    config = _CONFIG.pack(image, 0, _info(serial, part))
    with CONTROL.open("rb+", buffering=0) as control:
        for _ in range(_ATTEMPTS):
            path = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _CONFIGURE, config)
                # A device that was fenced in another lab stays so when it is detached.
                fcntl.ioctl(fd, _SET_READ_ONLY, struct.pack("=i", 0))
            except OSError as e:
                os.close(fd)
                if e.errno != errno.EBUSY:  # another lab was quicker
                    raise
            else:
                return path, fd
    raise OSError(errno.EBUSY, "no loop device is free")


def _info(serial: str, part: Part) -> bytes:
    return _INFO.pack(0, 0, 0, part.start, part.size, 0, 0, 0, _AUTOCLEAR, serial.encode(), b"", b"", 0, 0)


def _backing(device: Path) -> tuple[int, int] | None:
    """Device and inode of the file behind a loop device."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = _INFO.unpack(fcntl.ioctl(fd, _GET_STATUS64, bytes(_INFO.size)))
    except OSError:
        return None
    finally:
        os.close(fd)
    return fields[0], fields[1]


def _clear(device: Path) -> bool:
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _CLR_FD)
    except OSError as e:
        return e.errno == errno.ENXIO
    finally:
        os.close(fd)
    return _backing(device) is None
