"""I3: nobody imports a pool while another controller can write it, or without owning the term.

An import reads before it writes: what another can still change at its beginning is as bad as at its end. Who begins one
a moment after it lost the term does no harm: it will not write.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node, other
from middlewared.sim.checkers.checker import Checker
from middlewared.sim.voter import Disk


class OneImporter(Checker):
    name = "I3 one importer"

    def importing(self, node: Node, guid: str) -> None:
        self._alone(node, guid, "begins to import")

    def imported(self, node: Node, guid: str) -> None:
        if not any(disk.register.holding.owner == node for disk in self._reached(node)):
            self.wrong(f"{node} imported pool {guid} and holds none of the disks")
        self._alone(node, guid, "imported")

    def _alone(self, node: Node, guid: str, does: str) -> None:
        if other(node) not in self.scene.importers(guid):
            return
        open_ = [disk for disk in self._reached(node) if disk.register.holding.owner != node]
        if open_:
            self.wrong(f"{node} {does} pool {guid}, which {other(node)} has and can write on {len(open_)} disks")

    def _reached(self, node: Node) -> list[Disk]:
        return [disk for disk in self.scene.disks_of(node) if not disk.dead]
