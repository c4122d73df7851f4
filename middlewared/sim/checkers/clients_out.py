"""No pool is exported under the clients that use it: the address is down before the export begins."""

from __future__ import annotations

from middlewared.kernel.facts import Node
from middlewared.sim.checkers.checker import Checker


class ClientsOut(Checker):
    name = "clients out"

    def exporting(self, node: Node, name: str) -> None:
        if self.scene.answers(node):
            self.wrong(f"{node} begins to export {name} while it answers for the address")
