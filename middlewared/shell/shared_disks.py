"""The shared disks that the boot file names, as ports."""

from __future__ import annotations

from pathlib import Path

from middlewared.config import Voters
from middlewared.ports import Voter
from middlewared.protocol.keys import slot_key
from middlewared.protocol.slots import Seal
from middlewared.shell.disk_slots import DiskSlots
from middlewared.shell.shelf_voter import ShelfVoter
from middlewared.shell.slotted_voter import SlottedVoter

IN_REGISTER = "register"


class SharedDisks:
    """voting: the disks that grant terms. others: the rest. deadline_s, durable_s: see ShelfVoter.

    Where the slots lie on the disks, `use` must have given the cluster's seal before they can be read.
    """

    def __init__(self, voters: Voters | None, *, deadline_s: float, durable_s: float) -> None:
        self._cables: list[ShelfVoter] = []
        self._slots: list[DiskSlots] = []
        self._deadline_s = deadline_s
        self._durable_s = durable_s
        self.voting = tuple(self._voter(path, voters.slots) for path in voters.paths) if voters is not None else ()
        self.others = tuple(self._cable(path) for path in voters.others) if voters is not None else ()

    def use(self, cluster_id: str, cluster_key: bytes) -> None:
        for slots in self._slots:
            slots.use(Seal(cluster_id=cluster_id, key=slot_key(cluster_key)))

    def close(self) -> None:
        for cable in self._cables:
            cable.close()
        for slots in self._slots:
            slots.close()

    def _voter(self, path: str, slots: str) -> Voter:
        cable = self._cable(path)
        if slots == IN_REGISTER:
            return cable
        area = DiskSlots(path, f"{slots}/{Path(path).name}", deadline_s=self._deadline_s, durable_s=self._durable_s)
        self._slots.append(area)
        return SlottedVoter(cable, area)

    def _cable(self, path: str) -> ShelfVoter:
        cable = ShelfVoter(path, path, deadline_s=self._deadline_s, durable_s=self._durable_s)
        self._cables.append(cable)
        return cable
