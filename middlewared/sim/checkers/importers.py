"""I3: nobody imports a pool while another controller can write it, or without owning the term."""

from __future__ import annotations

from middlewared.kernel.facts import Node, other
from middlewared.sim.checkers.checker import Checker


class OneImporter(Checker):
    name = "I3 one importer"

    def imported(self, node: Node, guid: str) -> None:
        reached = [disk for disk in self.scene.disks_of(node) if not disk.dead]
        if not any(disk.register.holding.owner == node for disk in reached):
            self.wrong(f"{node} imported pool {guid} and holds none of the disks")
        if other(node) not in self.scene.importers(guid):
            return
        open_ = [disk for disk in reached if disk.register.holding.owner != node]
        if open_:
            self.wrong(f"{node} imported pool {guid}, which {other(node)} has and can write on {len(open_)} disks")
