"""The disks of both backends, and what may happen to them: in memory, and in the shelf's process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from middlewared.kernel.facts import Node
from middlewared.kernel.register import Granted, Holding
from middlewared.lab.disks import attach
from middlewared.ports import Voter
from middlewared.protocol.slots import Seal
from middlewared.shell.disk_slots import DiskSlots
from middlewared.shell.shelf_voter import ShelfVoter
from middlewared.shell.slotted_voter import SlottedVoter
from middlewared.sim.voter import Disk, SimVoter

DISKS = 3
DEADLINE_S = 0.3
DURABLE_S = 3.0
SEAL = Seal(cluster_id="c0ffee", key=b"k" * 32)
IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Ten thousand claims are thousands of fsyncs; where there is no such place they take longer."""


class Rig(Protocol):
    """Disks, and what may happen to them."""

    def cable(self, node: Node, disk: int) -> Voter:
        """A connection of its own."""
        ...

    async def cut(self, node: Node, way: str = "both") -> None: ...

    async def heal(self, node: Node) -> None: ...

    async def crash(self) -> None:
        """Kill what keeps the disks, with no warning, and start it again."""
        ...


class SimRig:
    def __init__(self) -> None:
        self._disks = [Disk() for _ in range(DISKS)]
        self._cables: list[tuple[Node, SimVoter]] = []

    def cable(self, node: Node, disk: int) -> Voter:
        voter = SimVoter(f"disk{disk}", self._disks[disk], node)
        self._cables.append((node, voter))
        return voter

    async def cut(self, node: Node, way: str = "both") -> None:
        for whose, voter in self._cables:
            voter.cut = voter.cut or whose == node

    async def heal(self, node: Node) -> None:
        for whose, voter in self._cables:
            voter.cut = voter.cut and whose != node

    async def crash(self) -> None:
        """Memory that crashes is gone; what this backend promises is nothing but the rules."""


class ShelfRig:
    """ports: what the shelf's --port takes."""

    def __init__(self, directory: Path, ports: Sequence[str] = ()) -> None:
        self._directory = directory
        self._ports = [f"--port={port}" for port in ports]
        for name in ("state", "A", "B"):
            (directory / name).mkdir()
        self._cables: list[ShelfVoter] = []
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        d = self._directory
        command = [sys.executable, "-m", "middlewared.lab.shelf", f"{d}/state", "--disks", str(DISKS)]
        command += ["--node", f"A={d}/A", "--node", f"B={d}/B", "--control", f"{d}/control", *self._ports]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    async def up(self) -> None:
        for _ in range(1000):
            if await self._order({"verb": "state"}) is not None:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the shelf did not come up within 10 s")

    def cable(self, node: Node, disk: int) -> Voter:
        path = f"{self._directory}/{node}/{disk}"
        voter = ShelfVoter(f"disk{disk}", path, deadline_s=DEADLINE_S, durable_s=DURABLE_S)
        self._cables.append(voter)
        return voter

    async def cut(self, node: Node, way: str = "both") -> None:
        assert (await self._order({"verb": "cut", "node": node, "way": way}) or {})["ok"] is True

    async def heal(self, node: Node) -> None:
        assert (await self._order({"verb": "heal", "node": node}) or {})["ok"] is True

    async def crash(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._close_stderr()
        self.process = self.start()
        await self.up()

    def end(self) -> None:
        for cable in self._cables:
            cable.close()
        self.process.kill()
        self.process.wait(10)
        self._close_stderr()

    def _close_stderr(self) -> None:
        assert self.process.stderr is not None
        self.process.stderr.close()

    async def _order(self, order: dict[str, object]) -> dict[str, object] | None:
        try:
            reader, writer = await asyncio.open_unix_connection(f"{self._directory}/control")
        except OSError:
            return None
        try:
            writer.write(msgspec.json.encode(order) + b"\n")
            async with asyncio.timeout(5):
                line = await reader.readline()
        finally:
            writer.close()
        answer: dict[str, object] = msgspec.json.decode(line)
        return answer


class SlotsRig(ShelfRig):
    """The shelf's registers, and slots on the loop devices of its disks. A cable that is cut takes the device along."""

    def __init__(self, directory: Path) -> None:
        images = [directory / f"disk{disk}.img" for disk in range(DISKS)]
        self._devices = attach(images, [image.stem for image in images])
        ports = ((node, n, port) for node, disks in self._devices.items() for n, port in enumerate(disks))
        super().__init__(directory, [f"{node}/{n}={device}" for node, n, port in ports for device in port.devices])
        self._areas: list[DiskSlots] = []

    def cable(self, node: Node, disk: int) -> Voter:
        slots, _ = self._devices[node][disk].devices
        area = DiskSlots(f"disk{disk}", str(slots), deadline_s=DEADLINE_S, durable_s=DURABLE_S)
        area.use(SEAL)
        self._areas.append(area)
        return SlottedVoter(super().cable(node, disk), area)

    async def cut(self, node: Node, way: str = "both") -> None:
        for port in self._devices[node]:
            port.cut(True)
        await super().cut(node, way)

    async def heal(self, node: Node) -> None:
        for port in self._devices[node]:
            port.cut(False)
        await super().heal(node)

    def end(self) -> None:
        super().end()
        for area in self._areas:
            area.close()
        for port in (port for ports in self._devices.values() for port in ports):
            port.close()


@pytest.fixture(params=["sim", "shelf", pytest.param("slots", marks=pytest.mark.root)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "sim":
        yield SimRig()
        return
    if request.param == "slots" and os.geteuid() != 0:
        pytest.skip("needs root: loop devices")
    directory = Path(tempfile.mkdtemp(prefix="mw-", dir=IN_MEMORY))
    shelf = SlotsRig(directory) if request.param == "slots" else ShelfRig(directory)
    try:
        await shelf.up()
        yield shelf
    finally:
        shelf.end()
        shutil.rmtree(directory)


async def claimed(voter: Voter, node: Node, term: int) -> Holding:
    """Claim over whatever is there; must be granted."""
    over = await voter.read()
    assert isinstance(over, Holding)
    answer = await voter.claim(node, term, over)
    assert isinstance(answer, Granted), answer
    return answer.holding
