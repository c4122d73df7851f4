"""The shared disks that the boot file names, as ports."""

from __future__ import annotations

import asyncio
from pathlib import Path

from middlewared.config import BootFile, Voters
from middlewared.kernel.facts import PairRecord
from middlewared.kernel.register import Silent
from middlewared.ports import Voter
from middlewared.protocol.keys import slot_key
from middlewared.protocol.quorum import Quorum
from middlewared.protocol.slots import Seal
from middlewared.shell.absent import Absent
from middlewared.shell.disk_slots import DiskSlots
from middlewared.shell.identity import Cluster
from middlewared.shell.kept_voters import recall
from middlewared.shell.shelf_voter import ShelfVoter
from middlewared.shell.slotted_voter import SlottedVoter

IN_REGISTER = "register"


class SharedDisks:
    """voting: the disks that vote where nothing else is configured. others: the rest. Each is called by its serial.

    deadline_s, durable_s: see ShelfVoter.

    Where the slots lie on the disks, `use` must have given the cluster's seal before they can be read.
    """

    def __init__(self, voters: Voters | None, *, deadline_s: float, durable_s: float) -> None:
        self._cables: list[ShelfVoter] = []
        self._slots: list[DiskSlots] = []
        self._deadline_s = deadline_s
        self._durable_s = durable_s
        self.voting = tuple(self._voter(path, voters.slots) for path in voters.paths) if voters is not None else ()
        self.others = tuple(self._voter(path, voters.slots) for path in voters.others) if voters is not None else ()

    def use(self, cluster_id: str, cluster_key: bytes) -> None:
        for slots in self._slots:
            slots.use(Seal(cluster_id=cluster_id, key=slot_key(cluster_key)))

    def close(self) -> None:
        for cable in self._cables:
            cable.close()
        for slots in self._slots:
            slots.close()

    def _voter(self, path: str, slots: str) -> Voter:
        name = Path(path).name
        serial = f"SHELF-{name}"  # as the disks of the shelf call themselves
        cable = ShelfVoter(serial, path, deadline_s=self._deadline_s, durable_s=self._durable_s)
        self._cables.append(cable)
        if slots == IN_REGISTER:
            return cable
        area = DiskSlots(serial, f"{slots}/{name}", deadline_s=self._deadline_s, durable_s=self._durable_s)
        self._slots.append(area)
        return SlottedVoter(cable, area)


async def records_of(
    boot: BootFile, cluster: Cluster, *, within_s: float
) -> tuple[list[PairRecord | Silent | None], bool]:
    """The record on each disk that votes, and whether those that answered are a majority."""
    disks = SharedDisks(boot.voters, deadline_s=within_s, durable_s=within_s)
    disks.use(cluster.cluster_id, cluster.key)
    kept = recall(Path(boot.data_dir) / "voters.json")
    sets: tuple[tuple[str, ...], ...] = (tuple(disk.name for disk in disks.voting),)
    if kept is not None and kept.cluster_id == cluster.cluster_id:
        sets = kept.voting.sets
    quorum = Quorum(sets)
    by_name = {disk.name: disk for disk in (*disks.voting, *disks.others)}
    voting = [by_name.get(name, Absent(name)) for name in quorum.members]
    try:
        said = await asyncio.gather(*(disk.read_record() for disk in voting))
    finally:
        disks.close()
    names = {disk.name for disk, record in zip(voting, said, strict=True) if not isinstance(record, Silent)}
    return list(said), quorum.has(names)
