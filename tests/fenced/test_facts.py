"""What fenced counts of itself and of the peer."""

from __future__ import annotations

import asyncio

import msgspec

from middlewared.config import BootFile
from middlewared.fenced.disks import Disks
from middlewared.fenced.ended import NO_ENDS
from middlewared.fenced.facts import Facts
from middlewared.fenced.memory import Memory
from middlewared.kernel.register import Holding, Register
from middlewared.protocol.hub import Heard, PeerWord
from middlewared.protocol.quorum import Quorum
from middlewared.shell.clock import SystemClock
from middlewared.sim.voter import Disk, SimVoter

BOOT = BootFile(node="A")
STEP_S = 0.05


class Time:
    """Steps and words, each STEP_S."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.now = 10.0

    def runs(self, *, owns: bool = False, peer_owns: bool = False) -> None:
        self.now += STEP_S
        word = PeerWord(
            boot_id="b", term=5, owner=peer_owns, links_up=True, hears_us=True, settled=True, resigned=False
        )
        self.facts.owns = owns
        self.facts.hear(
            Heard(
                since=0.0,
                interlink_at=self.now,
                advert_at=None,
                carrier=True,
                carrier_since=0.0,
                links_up=True,
                links_since=0.0,
                peer=word,
            ),
            self.now,
        )
        self.facts.step(self.now)


def fresh(memory: Memory | None = None) -> Time:
    return Time(Facts(BOOT, memory or Memory(boot_id="a", booted_at=0.0), NO_ENDS, 10.0))


async def overtaken_by(holding: Holding) -> bool:
    """Whether an owner of term 5 is overtaken where its one disk says so."""
    disk, clock, seen = Disk(), SystemClock(), asyncio.Event()
    disk.register = Register(holding=holding)
    voter = SimVoter("disk0", disk, "A")
    disks = Disks("A", (voter,), Quorum((("disk0",),)), clock, seen.set)
    facts = fresh().facts
    facts.owns, facts.term = True, 5
    disks.look()
    await asyncio.wait_for(seen.wait(), 2.0)
    return facts.view(disks, clock.boottime()).overtaken_since is not None


async def test_a_disk_in_a_later_term_or_the_peers_in_this_one_overtakes_an_owner() -> None:
    assert not await overtaken_by(Holding(term=5, owner="A", generation=1))
    assert not await overtaken_by(Holding(term=4, owner="B", generation=1))
    assert await overtaken_by(Holding(term=5, owner="B", generation=1))
    assert await overtaken_by(Holding(term=6, owner=None, generation=1))


def moves(facts: Facts) -> tuple[float, ...]:
    return facts.memory().moves


def test_a_term_that_goes_from_one_to_the_other_has_moved() -> None:
    time = fresh()
    time.runs(owns=True)
    time.runs()
    time.runs(peer_owns=True)
    assert moves(time.facts) == (time.now,)
    time.runs(owns=True)
    assert len(moves(time.facts)) == 2


def test_the_first_owner_that_is_seen_has_moved_nothing_and_an_owner_that_pauses_neither() -> None:
    time = fresh()
    time.runs(peer_owns=True)
    time.runs()
    time.runs(peer_owns=True)
    assert moves(time.facts) == ()


def test_moves_are_remembered_over_a_restart_and_only_the_latest_are() -> None:
    time = fresh()
    for owner in (True, False, True, False, True):
        time.runs(owns=owner, peer_owns=not owner)
    remembered = msgspec.json.decode(msgspec.json.encode(time.facts.memory()), type=Memory)
    assert len(remembered.moves) == 3
    again = fresh(remembered)
    again.now = time.now
    again.runs(owns=True)
    assert moves(again.facts) == remembered.moves
