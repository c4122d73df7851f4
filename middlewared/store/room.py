"""Is there room on the disk of the data directory for more configuration?

Below a floor of free space no command is taken. What is left below it is for what must still be written then: the
first record of a term, what the other controller already holds, a tail that is set aside, the -shm file without which
no database is opened. After that the commits themselves find no space (engine/appends.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

LOOK_S = 0.5
AGAIN = 1.25
"""Writes go on from this many floors of free space: at the floor itself each write would turn the answer round."""
_MIB = 1024 * 1024


def free_bytes(directory: Path) -> int:
    """What an unprivileged process may still fill. Raises OSError."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Room:
    """Asks the file system at most each LOOK_S. floor: bytes. now: seconds on a clock that only rises."""

    def __init__(
        self, directory: Path, floor: int, now: Callable[[], float], free: Callable[[Path], int] = free_bytes
    ) -> None:
        self._directory = directory
        self._floor = floor
        self._now = now
        self._free = free
        self._looked_at: float | None = None
        self._why: str | None = None

    def why_not(self) -> str | None:
        """Why nothing may be written; None while there is room."""
        now = self._now()
        if self._looked_at is None or now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._why = self._look()
        return self._why

    def _look(self) -> str | None:
        try:
            free = self._free(self._directory)
        except OSError as e:
            return f"{self._directory}: its free space is not known: {e.strerror}"
        again = int(self._floor * AGAIN)
        if free >= (self._floor if self._why is None else again):
            return None
        return (
            f"{self._directory} has {free // _MIB} MiB of free space and the floor is {self._floor // _MIB} MiB; "
            f"writes are taken again from {again // _MIB} MiB"
        )
