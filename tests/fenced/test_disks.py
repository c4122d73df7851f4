"""What is known of a shared disk that does not vote: a majority of the next set may be made of such."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from middlewared.fenced.disks import Disks
from middlewared.protocol.hub import VoterState
from middlewared.protocol.quorum import Quorum
from middlewared.protocol.slots import Seal
from middlewared.shell.clock import SystemClock
from middlewared.shell.disk_slots import DiskSlots
from middlewared.shell.slotted_voter import SlottedVoter
from middlewared.sim.voter import Disk, SimVoter

SOON_S = 1.0
"""Less than WHOSE_S: nobody waits for the next look."""
DEADLINE_S = 0.25
SEAL = Seal(cluster_id="c", key=b"k" * 32)


@pytest.fixture
async def slots(tmp_path: Path) -> AsyncIterator[DiskSlots]:
    """The area of a disk that has none: nothing is at its path."""
    area = DiskSlots("disk1", f"{tmp_path}/none", deadline_s=DEADLINE_S, durable_s=DEADLINE_S)
    yield area
    area.close()


class World:
    """One disk that votes, and beside it the one that it is about."""

    def __init__(self, other: SimVoter | SlottedVoter) -> None:
        self._news = asyncio.Event()
        votes = SimVoter("disk0", Disk(), "A")
        self.disks = Disks("A", (votes, other), Quorum((("disk0",),)), SystemClock(), on_news=self._news.set)

    @property
    def state(self) -> VoterState:
        (state,) = self.disks.others()
        return state

    async def look_until(self, known: Callable[[VoterState], bool]) -> None:
        async with asyncio.timeout(SOON_S):
            while not known(self.state):
                self.disks.look()
                await self._news.wait()
                self._news.clear()


async def test_one_whose_slots_cannot_be_read_answers_and_says_why_not(slots: DiskSlots) -> None:
    world = World(SlottedVoter(SimVoter("disk1", Disk(), "A"), slots))
    slots.use(SEAL)
    await world.look_until(lambda state: state.slots_error != "")
    assert (world.state.reachable, world.state.whose) == (True, "")
    assert world.state.slots_error == "disk1: No such file or directory"


async def test_it_is_looked_at_anew_when_the_key_of_the_slots_is_known(slots: DiskSlots) -> None:
    world = World(SlottedVoter(SimVoter("disk1", Disk(), "A"), slots))
    await world.look_until(lambda state: "not known yet" in state.slots_error)
    slots.use(SEAL)
    world.disks.look_at_slots_anew()
    await world.look_until(lambda state: "No such file" in state.slots_error)


async def test_one_that_keeps_the_record_in_its_register_needs_no_slots() -> None:
    world = World(SimVoter("disk1", Disk(), "A"))
    await world.look_until(lambda state: state.whose == "nobody")
    assert world.state.slots_error == ""
