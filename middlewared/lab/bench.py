"""The bench: what holds a lab together. Its own network namespace is the switch.

This file holds the state of the lab and carries out faults; `daemon.py` is the process around it and `door.py` how
commands reach it. Every fault is a change of the one value `Faults`. At the end the machines lose power, then the
shelf ends. All children die with the bench, whatever ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab import cables, faults
from middlewared.lab.bmc import Bmcs
from middlewared.lab.disks import DiskPort, attach
from middlewared.lab.faults import NODES, Faults, Link, Way
from middlewared.lab.layout import Layout, serial_of
from middlewared.lab.machine import Machine
from middlewared.lab.own import Bind
from middlewared.lab.programs import (
    Programs,
    network_of_client,
    network_of_controller,
    relay_service,
    services_for,
)
from middlewared.lab.shelf_process import Shelf
from middlewared.lab.verbs import MachineName

REBOOT_S = 1.0


class Bench:
    """The lab's machines, cables and disks. listeners: files that listen on the host, for the client's relay."""

    def __init__(self, layout: Layout, run: Programs, listeners: dict[str, int]) -> None:
        self.layout = layout
        self.faults = Faults()
        self.powered: set[str] = set()
        self.machines = {
            node: Machine(layout, node, network_of_controller(node), services_for(run, layout, node)) for node in NODES
        }
        self.client = Machine(layout, "client", network_of_client(), [relay_service(layout, listeners)])
        self._shelf = Shelf(layout, run.shelf)
        self._disks: dict[Node, list[DiskPort]] = {node: [] for node in NODES}
        self._turn = asyncio.Lock()
        self._wiring: faults.Wiring | None = None
        self._wiring_turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bmcs = Bmcs(layout, self)
        self._resets: dict[Node, asyncio.Task[None]] = {}

    def machine(self, name: MachineName) -> Machine:
        return self.client if name == "client" else self.machines[name]

    async def build(self) -> None:
        """Bring up the switch, the disks and the machines. Raises PortFailed."""
        await cables.build_switch()
        images = self.layout.disk_images()
        self._disks = attach(images, [serial_of(disk) for disk in range(len(images))])
        ports = ((node, n, port) for node in NODES for n, port in enumerate(self._disks[node]))
        await self._shelf.start([f"{node}/{n}={device}" for node, n, port in ports for device in port.devices])
        await self._bmcs.open()
        await self._change(lambda now: now)
        self.powered |= {"client", *NODES}
        await asyncio.gather(*(self._boot(machine) for machine in (self.client, *self.machines.values())))

    async def tear_down(self) -> None:
        """Power everything off and let go of all that the kernel holds for us. The databases stay."""
        async with self._turn:
            self.powered.clear()
            self._bmcs.close()
            for task in (*self._tasks, *self._resets.values()):
                task.cancel()
            await asyncio.gather(*(machine.kill() for machine in (*self.machines.values(), self.client)))
            await self._shelf.stop()
            for disk in (disk for disks in self._disks.values() for disk in disks):
                disk.close()
            self._disks = {node: [] for node in NODES}

    # --- power ---

    async def power_on(self, node: Node) -> None:
        async with self._turn:
            if node not in self.powered:
                self.powered.add(node)
                await self._boot(self.machines[node])

    async def power_off(self, node: Node) -> None:
        """Cables first, then the machine: nothing that its kernel says about the end gets out."""
        if (reset := self._resets.pop(node, None)) is not None:
            reset.cancel()
        async with self._turn:
            self.powered.discard(node)
            await self._change(lambda now: faults.unplug(now, node))
            await self.machines[node].kill()
            await cables.pull_out(node)

    async def reset(self, node: Node) -> None:
        """Power off, and on again after a second; returns when it is off. A machine that was off stays so."""
        was_on = node in self.powered
        await self.power_off(node)
        if was_on:
            self._resets[node] = asyncio.create_task(self._power_on_later(node))

    async def _power_on_later(self, node: Node) -> None:
        await asyncio.sleep(REBOOT_S)
        self._resets.pop(node, None)  # from here on a power cut waits for the boot, instead of ending it halfway
        await self.power_on(node)

    async def _boot(self, machine: Machine) -> None:
        try:
            pid, go = await machine.start(self._binds(machine.name))
            await cables.plug_in(machine.name, pid)
            await self._change(lambda now: faults.plug(now, machine.name))
            go()
            machine.went_on(pid)
        except (PortFailed, OSError):
            self.powered.discard(machine.name)
            await machine.kill()
            raise
        task = asyncio.create_task(self._boot_again(machine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _boot_again(self, machine: Machine) -> None:
        """When the machine ends by itself, boot it after a second, unless it was powered off."""
        await machine.ended()
        if machine.name not in self.powered:
            return
        note(f"{machine.name} ended by itself and boots again")
        await self._change(lambda now: faults.unplug(now, machine.name))
        await cables.pull_out(machine.name)
        await asyncio.sleep(REBOOT_S)
        async with self._turn:
            if machine.name in self.powered and not machine.running:
                try:
                    await self._boot(machine)
                except (PortFailed, OSError) as e:
                    note(f"{machine.name} stays off: {e}")

    def _binds(self, name: str) -> list[Bind]:
        """What a machine sees of its directory; a controller also its boot file and its ports of the shared disks."""
        binds = [Bind(str(self.layout.run(name)), "/run/middleware")]
        for node in NODES:
            if name == node:
                binds.append(Bind(str(self.layout.boot_file(node)), "/etc/middlewared.toml"))
                binds.append(Bind(str(self.layout.shelf_cables(node)), "/run/shelf"))
                binds.append(Bind(str(self.layout.bmc(node)), "/run/bmc"))
                binds += [bind for disk in self._disks[node] for bind in disk.binds]
        return binds

    # --- freezing and cutting ---

    async def freeze(self, node: Node) -> None:
        async with self._turn:
            await self._running(node).freeze()

    async def thaw(self, node: Node) -> None:
        async with self._turn:
            self._running(node).thaw()

    def _running(self, node: Node) -> Machine:
        if not self.machines[node].running:
            raise PortFailed(f"controller {node}", "is off" if node not in self.powered else "is booting")
        return self.machines[node]

    async def cut(self, link: Link, way: Way) -> None:
        async with self._turn:
            await self._change(lambda now: faults.cut(now, link, way))

    async def heal(self, link: Link, way: Way) -> None:
        async with self._turn:
            await self._change(lambda now: faults.heal(now, link, way))

    async def _change(self, change: Callable[[Faults], Faults]) -> None:
        """Make the lab be as after `change`; only what differs is touched. Concurrent changes wait for each other."""
        async with self._wiring_turn:
            self.faults = change(self.faults)
            wiring = faults.wiring(self.faults)
            await cables.apply(self._wiring, wiring)
            for node in NODES:
                if self._wiring is None or self._wiring.shelf[node] != wiring.shelf[node]:
                    await self._shelf.cut(node, wiring.shelf[node])
                    for disk in self._disks[node]:
                        disk.cut(bool(wiring.shelf[node]))
            self._wiring = wiring


def note(line: str) -> None:
    """One line in the bench's log."""
    print(f"{time.monotonic():.3f} {line}", flush=True)
