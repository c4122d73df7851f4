"""A machine with zfs-fuse in namespaces of its own, as the lab's controllers are, without a network or daemons.

python -m tests.shell.zfs.machine A|B DEVICE ...     says the pid of its pid 1, which is zfs-fuse
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from middlewared.lab import loops, namespaces
from middlewared.lab.own import Bind, mount_own
from middlewared.lab.programs import zfs

SHELF = Path("/dev/shelf")
START_S = 20.0
COMMAND_S = 20.0


class Machine:
    """Running for as long as it was not killed. enter: what a command begins with that runs in it."""

    def __init__(self, name: str, devices: Sequence[Path]) -> None:
        argv = [sys.executable, "-m", "tests.shell.zfs.machine", name, *map(str, devices)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())
        self.enter = ("nsenter", "-t", str(self.pid), "-m", "-u", "-p", "--root", "--")
        self.process = Path(f"/proc/{self.pid}")
        limit = time.monotonic() + START_S
        while self.run("zpool", "list").returncode:
            assert time.monotonic() < limit, "zfs-fuse does not answer"
            time.sleep(0.02)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = (*self.enter, *argv)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )

    def kill(self) -> None:
        """A power cut."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def shelf(directory: Path, disks: int) -> Iterator[tuple[list[loops.Loop], list[loops.Loop]]]:
    """The ports of A and those of B."""
    images = [directory / f"disk{number}.img" for number in range(disks)]
    for image in images:
        loops.make_image(image)
    ports = tuple([loops.Loop(image, f"SHELF-{n}") for n, image in enumerate(images)] for _ in "AB")
    try:
        yield ports[0], ports[1]
    finally:
        for port in (*ports[0], *ports[1]):
            port.close()


def main() -> None:
    name, *devices = sys.argv[1:]
    namespaces.die_with_parent()
    namespaces.unshare(namespaces.NEWNS | namespaces.NEWPID | namespaces.NEWUTS | namespaces.NEWIPC, "make a machine")
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os.waitpid(pid, 0)
        return
    namespaces.die_with_parent()
    mount_own(name, [Bind(device, str(SHELF / str(number))) for number, device in enumerate(devices)])
    socket.sethostname(f"controller-{name.lower()}")
    silence = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    os.execvp("sh", zfs().argv)


if __name__ == "__main__":
    main()
