"""Ten thousand claims from several sides at once: no term is granted twice, and none has two owners."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from middlewared.fenced.polling import Polling
from middlewared.kernel.facts import Node
from middlewared.kernel.register import Denied, Granted, Holding, Silent
from middlewared.ports import Voter
from middlewared.protocol.ballot import Ballot, Mandate, Won
from middlewared.protocol.quorum import Quorum
from middlewared.shell.clock import SystemClock
from tests.contract.conftest import DISKS, Rig

CLAIMS = 10_000


async def stall(chance: random.Random) -> None:
    """Between nothing and a millisecond: wide enough for the others to come between."""
    if chance.random() < 0.02:
        await asyncio.sleep(chance.random() / 1000)
    else:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("rig", ["sim", "shelf"], indirect=True)
@pytest.mark.parametrize("contenders", [2, 4])
async def test_no_term_is_granted_twice_in_ten_thousand_contended_claims(rig: Rig, contenders: int) -> None:
    grants: Counter[int] = Counter()
    claims = 0

    async def contend(number: int) -> None:
        nonlocal claims
        chance = random.Random(number)
        node: Node = "A" if number % 2 == 0 else "B"
        disk = rig.cable(node, 0)
        while claims < CLAIMS:
            claims += 1
            over = await disk.read()
            assert isinstance(over, Holding)
            await stall(chance)
            answer = await disk.claim(node, over.term + 1, over)
            assert not isinstance(answer, Silent), answer
            grants[over.term + 1] += isinstance(answer, Granted)

    await asyncio.gather(*(contend(number) for number in range(contenders)))
    assert claims >= CLAIMS
    assert [term for term, count in grants.items() if count > 1] == []
    assert sum(grants.values()) < claims, "nobody ever lost: the claims were not contended"


class StallingVoter:
    """A voter whose owner is slow between reading and claiming, and between the claims."""

    def __init__(self, voter: Voter, chance: random.Random, counted: Counter[str]) -> None:
        self.name = voter.name
        self._voter = voter
        self._chance = chance
        self._counted = counted

    def __getattr__(self, name: str) -> object:
        return getattr(self._voter, name)

    async def claim(self, node: Node, term: int, over: Holding) -> Granted | Denied | Silent:
        self._counted["claims"] += 1
        await stall(self._chance)
        return await self._voter.claim(node, term, over)


@pytest.mark.parametrize("rig", ["sim", "shelf"], indirect=True)
@pytest.mark.parametrize("contenders", [2, 3])
async def test_no_term_has_two_owners_in_contended_ballots_over_three_disks(rig: Rig, contenders: int) -> None:
    owners: dict[int, list[int]] = {}
    counted: Counter[str] = Counter()

    async def contend(number: int) -> None:
        chance = random.Random(number)
        node: Node = "A" if number % 2 == 0 else "B"
        voters = {str(d): StallingVoter(rig.cable(node, d), chance, counted) for d in range(DISKS)}
        while counted["claims"] < CLAIMS:
            counted["ballots"] += 1
            mandate = Mandate(node=node, known_term=0, forced=True)
            pauses_s = (chance.random() / 1000, chance.random() / 500)
            machine = Ballot(mandate, Quorum((tuple(voters),)), pauses_s=pauses_s)
            outcome = await Polling(machine, node, voters, SystemClock()).outcome  # type: ignore[arg-type]
            if isinstance(outcome, Won):
                owners.setdefault(outcome.term, []).append(number)
            await stall(chance)

    await asyncio.gather(*(contend(number) for number in range(contenders)))
    assert {term: who for term, who in owners.items() if len(who) > 1} == {}
    assert 0 < len(owners) < counted["ballots"], "the ballots were not contended"
