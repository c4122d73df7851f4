"""Which disks vote: the rules, what the methods refuse, and the second step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.failover.voters import NOUN, UNSET, Change, Settle, Updated
from middlewared_plugins.network import plugin as network

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.duties import DutyContext
from middlewared.engine.standin import FACTS, dispatcher
from middlewared.kernel.facts import Node, SharedDisk, Voting
from tests.plugins.client import Client
from tests.plugins.given import given

OLD, NEW = ("S0", "S1", "S2"), ("S2", "S3", "S4")
BOTH = Updated(number=9, sets=(OLD, NEW))


def a_disk(number: int, sets: tuple[int, ...] = (), **changes: object) -> SharedDisk:
    disk = SharedDisk(
        serial=f"S{number}",
        sets=sets,
        changing=False,
        reachable=True,
        owner="A",
        term=4,
        keeps="slots",
        slots_of="nobody",
        error="",
    )
    return msgspec.structs.replace(disk, **changes)


DISKS = (*(a_disk(n, (0,)) for n in range(3)), a_disk(3), a_disk(4))
CHANGING = tuple(
    msgspec.structs.replace(disk, changing=True, sets=sets)
    for disk, sets in zip(DISKS, ((0,), (0,), (0, 1), (1,), (1,)), strict=True)
)
HEALTHY = msgspec.structs.replace(
    FACTS, paired=True, peer_connected=True, in_sync=("A", "B"), term=4, shared_disks=DISKS, voting=0, peer_voting=0
)


class TestTheRules:
    def test_first_both_vote_then_the_new_ones_alone(self) -> None:
        given(NOUN).when(Change(number=9, old=OLD, new=NEW)).then(BOTH)
        given(NOUN, BOTH).when(Settle(of=9, number=1)).then(Updated(number=10, sets=(NEW,)))

    def test_what_was_configured_counts_and_not_what_is_given_as_old(self) -> None:
        settled = Updated(number=10, sets=(NEW,))
        given(NOUN, settled).when(Change(number=99, old=("X", "Y", "Z"), new=OLD)).then(
            Updated(number=99, sets=(NEW, OLD))
        )

    def test_the_number_always_rises(self) -> None:
        given(NOUN, Updated(number=10, sets=(NEW,))).when(Change(number=3, old=NEW, new=OLD)).then(
            Updated(number=11, sets=(NEW, OLD))
        )

    def test_to_name_the_old_ones_takes_a_change_back_and_no_other_is_taken_meanwhile(self) -> None:
        given(NOUN, BOTH).when(Change(number=0, old=(), new=OLD)).then(Updated(number=10, sets=(OLD,)))
        assert (
            "under way" in given(NOUN, BOTH).when(Change(number=0, old=(), new=("S1", "S2", "S3"))).refused()["disks"]
        )

    def test_what_votes_already_makes_no_event(self) -> None:
        given(NOUN).when(Change(number=9, old=OLD, new=OLD[::-1])).then()

    def test_a_second_step_that_was_made_is_not_made_again(self) -> None:
        given(NOUN, BOTH).when(Settle(of=8, number=0)).then()
        given(NOUN, Updated(number=10, sets=(NEW,))).when(Settle(of=9, number=0)).then()

    @pytest.mark.parametrize("new", [("S0",), ("S0", "S1", "S2", "S3"), ("S0", "S0", "S1"), ()])
    def test_three_or_five_different_disks_vote(self, new: tuple[str, ...]) -> None:
        assert "disks" in given(NOUN).when(Change(number=1, old=OLD, new=new)).refused()

    @pytest.mark.parametrize("state", [UNSET, Voting(number=9, sets=(OLD, NEW)), Voting(number=7, sets=(NEW,))])
    def test_what_is_projected_can_be_restored(self, state: Voting) -> None:
        assert NOUN.restore(NOUN.project(state)) == state


class World:
    def __init__(self) -> None:
        self.api: Dispatcher
        self.api, self.engine, _ = dispatcher(failover, network)
        self.engine.facts_now = HEALTHY
        self.engine.peer["failover.voters.here"] = msgspec.to_builtins(DISKS)
        self.admin = Client(self.api, "FULL_ADMIN")

    def facts(self, **changes: object) -> None:
        self.engine.facts_now = msgspec.structs.replace(HEALTHY, **changes)

    def sees(self, node: Node, disks: tuple[SharedDisk, ...]) -> None:
        """What one of the two controllers sees; the other sees them whole."""
        if node == "A":
            self.facts(shared_disks=disks)
        else:
            self.engine.peer["failover.voters.here"] = msgspec.to_builtins(disks)

    async def set(self, *disks: str, **options: object) -> Any:
        return await self.admin.call("failover.voters.set", list(disks), *([options] if options else []))

    async def do_duty(self) -> None:
        (duty,) = (duty for duty in failover.duties if duty.name == "settle voters")
        await duty.run(DutyContext(self.engine, self.engine))

    @property
    def state(self) -> Voting:
        state: Voting = self.engine.states["failover.voters"]
        return state


@pytest.fixture
def world() -> World:
    return World()


async def test_each_disk_is_shown_with_what_it_does(world: World) -> None:
    shown = await Client(world.api, "FAILOVER_READ").call("failover.voters.query")
    assert [(disk["serial"], disk["state"]) for disk in shown[2:4]] == [("S2", "voting"), ("S3", "not voting")]
    assert shown[0] == {
        "serial": "S0",
        "state": "voting",
        "reachable": True,
        "held_by": "A",
        "term": 4,
        "keeps": "slots",
        "slots_of": "nobody",
        "error": "",
    }
    world.facts(shared_disks=CHANGING)
    shown = await Client(world.api, "FAILOVER_READ").call("failover.voters.query")
    assert [disk["state"] for disk in shown] == ["leaving", "leaving", "voting", "joining", "joining"]


async def test_a_change_takes_two_steps(world: World) -> None:
    await world.set(*NEW)
    assert world.state == Voting(number=4 << 16, sets=(OLD, NEW))
    await world.do_duty()
    assert len(world.state.sets) == 2, "nobody has taken it up"
    world.facts(voting=4 << 16, peer_voting=0)
    await world.do_duty()
    assert len(world.state.sets) == 2, "the other has not"
    world.facts(voting=4 << 16, peer_voting=4 << 16, in_sync=("A",))
    await world.do_duty()
    assert len(world.state.sets) == 2, "the other one's log would not say so"
    world.facts(voting=4 << 16, peer_voting=4 << 16)
    await world.do_duty()
    await world.do_duty()
    assert world.state == Voting(number=(4 << 16) + 1, sets=(NEW,))


@pytest.mark.parametrize(
    "changes",
    [
        {"in_sync": ("A",)},
        {"peer_connected": False},
        {"voting": 5},
        {"peer_voting": None},
        {"shared_disks": CHANGING},
        {"shared_disks": ()},
        {"paired": False},
        {"log_format": 2},
    ],
)
async def test_it_needs_both_controllers_in_sync_and_no_other_change(world: World, changes: dict[str, Any]) -> None:
    world.facts(**changes)
    refused = await world.set("S1", "S2", "S3")
    assert refused["errname"] in ("EAGAIN", "EBUSY", "EINVAL", "ENOTSUP")
    assert world.state == UNSET


async def test_a_change_waits_until_both_have_taken_up_the_one_before(world: World) -> None:
    world.engine.states["failover.voters"] = Voting(number=9, sets=(OLD,))
    assert (await world.set(*NEW))["errname"] == "EBUSY"
    world.facts(voting=9, peer_voting=9)
    await world.set(*NEW)
    assert world.state.sets == (OLD, NEW)


async def test_it_is_taken_back_while_the_other_controller_is_heard_not_to_be_ahead(world: World) -> None:
    await world.set(*NEW)
    for peer_voting in (None, world.state.number + 1):
        world.facts(shared_disks=CHANGING, peer_voting=peer_voting)
        assert (await world.set(*OLD))["errname"] == "EAGAIN"
    world.facts(shared_disks=CHANGING, in_sync=("A",), peer_connected=False, peer_voting=0)
    world.engine.peer.clear()
    await world.set(*OLD)
    assert world.state.sets == (OLD,)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reachable": False, "error": "no answer within 250 ms"}, "no answer within 250 ms"),
        ({"serial": "S9"}, "no shared disk that both controllers have"),
    ],
)
@pytest.mark.parametrize("node", ["A", "B"])
async def test_both_controllers_must_see_a_disk_that_is_new(
    world: World, node: Node, changes: dict[str, Any], sentence: str
) -> None:
    world.sees(node, (*DISKS[:4], msgspec.structs.replace(DISKS[4], **changes)))
    refused = await world.set(*NEW)
    assert [(field, sentence in text) for field, text, _ in refused["extra"]] == [("disks.2", True)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"slots_of": "", "slots_error": "S4: No such file or directory"}, "S4: No such file or directory"),
        ({"slots_of": ""}, "has not looked at its slots"),
    ],
)
@pytest.mark.parametrize("node", ["A", "B"])
@pytest.mark.parametrize("force", [False, True])
async def test_a_disk_without_slots_does_not_vote_and_force_makes_no_room(
    world: World, node: Node, changes: dict[str, Any], sentence: str, force: bool
) -> None:
    world.sees(node, (*DISKS[:4], a_disk(4, **changes)))
    refused = await world.set(*NEW, force=force)
    assert [(field, f"controller {node}" in text) for field, text, _ in refused["extra"]] == [("disks.2", True)]
    text = refused["extra"][0][1]
    assert text.startswith("S4 cannot vote")
    assert sentence in text
    assert world.state == UNSET


async def test_a_voter_without_slots_is_shown_with_the_reason(world: World) -> None:
    world.facts(shared_disks=(*DISKS[:4], a_disk(4, slots_of="", slots_error="S4: No such file or directory")))
    shown = await Client(world.api, "FAILOVER_READ").call("failover.voters.query")
    assert (shown[4]["slots_of"], shown[4]["error"]) == ("", "S4: No such file or directory")


@pytest.mark.parametrize("slots_of", ["another pair", "unknown"])
@pytest.mark.parametrize("node", ["A", "B"])
async def test_what_is_on_a_disk_is_written_over_only_with_force(world: World, node: Node, slots_of: str) -> None:
    world.sees(node, (*DISKS[:3], a_disk(3, slots_of=slots_of), DISKS[4]))
    refused = await world.set(*NEW)
    assert [field for field, _, _ in refused["extra"]] == ["disks.1"]
    assert "`force`" in refused["extra"][0][1]
    await world.set(*NEW, force=True)
    assert world.state.sets == (OLD, NEW)
