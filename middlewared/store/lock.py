"""One process at a time has the data directory: a lock on the file `lock` in it.

The kernel lets go of it when the process ends, however it ends (flock(2)), so there is no stale lock to clean up.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from middlewared.kernel.errors import PortFailed
from middlewared.store.sqlite import sync_directory


class DataDirectory:
    """The data directory, ours until `close`. Made, for its owner only, where it does not exist.

    Raises PortFailed when another process has it, naming that one, or when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lock = path / "lock"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            sync_directory(path.parent)
        except OSError as e:
            raise PortFailed(f"use the data directory {path}", f"{e.filename or lock}: {e.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise PortFailed(f"use the data directory {path}", f"process {owner or '?'} has it open") from None
        with suppress(OSError):  # only for whoever wants to know; a full disk is no reason not to start
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
