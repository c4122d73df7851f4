"""Two controllers' ZFS over one set of disks, by each backend: what the contract of ports.PoolStore is tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from middlewared.kernel.facts import Node
from middlewared.lab import loops
from middlewared.ports import PoolStore
from middlewared.shell.zfs.commands import Commands
from middlewared.shell.zfs.zfs_fuse import ZfsFuse
from middlewared.sim.pools import MemoryPools, PoolDisks
from tests.shell.zfs.machine import SHELF, Machine


class PoolRig(Protocol):
    """Empty disks, by the same paths on both controllers."""

    def store(self, node: Node) -> PoolStore: ...

    def power_cut(self, node: Node) -> None:
        """The controller is gone at once; it is back, with nothing imported, when this returns."""
        ...

    def devices(self) -> list[str]: ...


class MemoryRig:
    def __init__(self) -> None:
        self._disks = PoolDisks()
        self._stores = {node: MemoryPools(self._disks, f"controller-{node.lower()}") for node in ("A", "B")}

    def store(self, node: Node) -> PoolStore:
        return self._stores[node]

    def power_cut(self, node: Node) -> None:
        self._stores[node].lose_power()

    def devices(self) -> list[str]:
        return [disk.path for disk in self._disks.disks]


class ZfsFuseRig:
    """Real ZFS in namespaces. ports: of A and of B."""

    def __init__(self, ports: tuple[list[loops.Loop], list[loops.Loop]]) -> None:
        self._ports: dict[Node, list[Path]] = {
            "A": [port.path for port in ports[0]],
            "B": [port.path for port in ports[1]],
        }
        self._machines = {node: Machine(node, paths) for node, paths in self._ports.items()}

    def store(self, node: Node) -> PoolStore:
        machine = self._machines[node]
        return ZfsFuse(SHELF, Commands(machine.enter), machine.process)

    def power_cut(self, node: Node) -> None:
        self._machines[node].kill()
        self._machines[node] = Machine(node, self._ports[node])

    def devices(self) -> list[str]:
        return [str(SHELF / str(number)) for number in range(len(self._ports["A"]))]

    async def clean(self) -> None:
        """Leave no pool, for the next test."""
        for node in self._machines:
            store = self.store(node)
            for pool in await store.imported():
                await store.destroy(pool.name)
        store = self.store("A")
        for found in await store.found():
            await store.import_pool(found.guid, force=True)
            await store.destroy(found.name)

    def close(self) -> None:
        for machine in self._machines.values():
            machine.kill()
