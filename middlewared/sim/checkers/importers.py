"""I3: nobody imports a pool while another controller can write it, or without owning the term.

An import reads before it writes: what another can still change at its beginning is as bad as at its end. But for the
beginning counts only what a controller was told: what it cannot know yet, a disk that came into reach or a term that
was lost a moment ago, its disks refuse when it writes. Nor can one know that its term is over who stands still.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node, other
from middlewared.sim.checkers.checker import Checker, Report, Scene
from middlewared.sim.voter import Disk


class OneImporter(Checker):
    name = "I3 one importer"

    def __init__(self, scene: Scene, report: Report) -> None:
        super().__init__(scene, report)
        self._awake: dict[Node, set[str]] = {"A": set(), "B": set()}
        """The imports that began since the controller last stood still."""

    def stood_still(self, node: Node, for_s: float) -> None:
        self._awake[node].clear()

    def importing(self, node: Node, guid: str) -> None:
        self._awake[node].add(guid)
        there = other(node)
        open_ = [disk for disk in self._open(node, guid) if disk.told.get(node) == there]
        if open_:
            self.wrong(f"{node} begins to import pool {guid}, and knows that {there} has {len(open_)} of its disks")

    def imported(self, node: Node, guid: str) -> None:
        holds = any(disk.register.holding.owner == node for disk in self._reached(node))
        if not holds and guid in self._awake[node]:
            self.wrong(f"{node} imported pool {guid} and holds none of the disks")
        if open_ := self._open(node, guid):
            self.wrong(f"{node} imported pool {guid}, which {other(node)} has and can write on {len(open_)} disks")

    def _open(self, node: Node, guid: str) -> list[Disk]:
        """The disks that `node` reaches and the other controller, which has the pool, can write."""
        if other(node) not in self.scene.importers(guid):
            return []
        return [disk for disk in self._reached(node) if disk.register.holding.owner != node]

    def _reached(self, node: Node) -> list[Disk]:
        return [disk for disk in self.scene.disks_of(node) if not disk.dead]
