"""Forget what the kernel keeps of the disks: BLKFLSBUF, as `blockdev --flushbufs` does it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_FLUSH = 0x1261


def drop(directory: Path) -> None:
    """For each device in `directory`. One that cannot be opened has no pages that anybody reads."""
    for device in directory.glob("*"):
        with contextlib.suppress(OSError):
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _FLUSH)
            finally:
                os.close(fd)
