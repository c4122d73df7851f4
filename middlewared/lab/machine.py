"""One machine of the lab as the bench sees it: the process that holds its namespaces, its power, its freezing.

    OFF  --boot-->  BOOTING  --`booted` came, `go` was answered-->  RUNNING
    RUNNING --pid 1 ended by itself--> OFF, and the bench boots it again        any --power off--> OFF

A frozen machine is one whose every process is stopped; its kernel and its links stay up. One that waits for a disk (D)
cannot be seen stopped: it was told, and stops before it does anything more. For a file of a pool it waits until ZFS,
which is stopped as well, goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.lab import init, namespaces
from middlewared.lab.layout import Layout
from middlewared.lab.own import Bind
from middlewared.lab.supervision import Service

BOOT_TIMEOUT_S = 20.0
END_TIMEOUT_S = 5.0
FREEZE_TIMEOUT_S = 5.0
FREEZE_DISK_S = 0.1
"""How long one that waits for a disk is waited for."""


Announced: TypeAlias = tuple[int, Callable[[], None]]
"""Pid 1 as seen from outside, and what lets it go on."""


class Machine:
    """A controller or the client. `pid` is pid 1 as seen from outside; 0 while it is not running."""

    def __init__(self, layout: Layout, name: str, network: Sequence[str], services: Sequence[Service]) -> None:
        self.name = name
        self.pid = 0
        self.frozen = False
        self._layout = layout
        self._network = tuple(network)
        self._services = tuple(services)
        self._process: asyncio.subprocess.Process | None = None
        self._announced: asyncio.Future[Announced] | None = None

    @property
    def running(self) -> bool:
        return self.pid != 0

    async def start(self, binds: Sequence[Bind]) -> Announced:
        """Start the machine and wait until its pid 1 announces itself. Raises PortFailed."""
        spec = init.Spec(
            name=self.name,
            bench=str(self._layout.socket),
            member=str(self._layout.dir),
            network=self._network,
            binds=tuple(binds),
            services=self._services,
        )
        file = self._layout.machine(self.name) / "machine.json"
        file.write_bytes(msgspec.json.encode(spec))
        self._announced = asyncio.get_running_loop().create_future()
        with (self._layout.logs(self.name) / "init.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "middlewared.lab.init", str(file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd for service in self._services for fd in service.fds],
                cwd="/",
            )
        try:
            return await asyncio.wait_for(self._announced, BOOT_TIMEOUT_S)
        except TimeoutError:
            await self.kill()
            raise PortFailed(f"boot {self.name}", f"no sign of life; {last_line(Path(log.name))}") from None

    def announced(self, pid: int, go: Callable[[], None]) -> None:
        """Its pid 1 connected to the bench and waits for `go`."""
        if self._announced is not None and not self._announced.done():
            self._announced.set_result((pid, go))

    def went_on(self, pid: int) -> None:
        """Its pid 1 was let go on: it is running now."""
        self.pid, self.frozen = pid, False

    async def ended(self) -> None:
        """Wait until the machine is no more, for whatever reason."""
        if self._process is not None:
            await self._process.wait()
        self.pid, self.frozen = 0, False

    async def kill(self) -> None:
        """Power off: SIGKILL for pid 1; returns when the machine is gone. Raises PortFailed if it stays."""
        # The first process waits for pid 1, and pid 1's end for that of all others: so kill the first one only if
        # there is no other yet.
        if pid := self.pid or (self._process.pid if self._process else 0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            await asyncio.wait_for(self.ended(), END_TIMEOUT_S)
        except TimeoutError:
            raise PortFailed(f"power {self.name} off", f"its processes still live after {END_TIMEOUT_S} s") from None

    async def freeze(self) -> None:
        """Stop every process, pid 1 first so that it restarts none, until a look round finds none running."""
        self.frozen = True
        began = time.monotonic()
        os.kill(self.pid, signal.SIGSTOP)
        while moving := {
            pid: state
            for pid in namespaces.members(self.pid)
            if (state := namespaces.state_of(pid)) not in ("T", "Z", "X", "")
        }:
            if set(moving.values()) == {"D"} and time.monotonic() > began + FREEZE_DISK_S:
                return
            if time.monotonic() > began + FREEZE_TIMEOUT_S:
                raise PortFailed(f"freeze {self.name}", f"pid {next(iter(moving))} does not stop")
            for pid in moving:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(0)

    def thaw(self) -> None:
        for pid in namespaces.members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = False


def last_line(log: Path) -> str:
    """The end of a log, for an error message that need not send the reader to look for it."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{log}: {lines[-1]}" if lines else f"{log} is empty"
