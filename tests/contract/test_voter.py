"""The contract of the port `Voter`: one suite for the disk in memory, the shelf's process, and slots on a device."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import UNTOUCHED, Denied, Granted, Silent
from tests.contract.conftest import DEADLINE_S, DISKS, Rig, ShelfRig, claimed


def a_record(owner: Node, term: int, serial: int = 1) -> PairRecord:
    return PairRecord(
        term=term, owner=owner, in_sync=("A", "B"), committed_seq=7, committed_hash=b"\x01" * 32, serial=serial
    )


async def test_an_untouched_disk_is_free_in_term_0_without_record_or_heartbeat(rig: Rig) -> None:
    disk = rig.cable("A", 0)
    assert await disk.read() == UNTOUCHED
    assert await disk.read_record() is None
    assert await disk.read_beat() == 0


async def test_a_claim_over_what_was_read_is_granted_and_both_controllers_see_it(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    holding = await claimed(a, "A", 3)
    assert (holding.owner, holding.term) == ("A", 3)
    assert holding.generation > UNTOUCHED.generation
    assert await a.read() == await b.read() == holding


@pytest.mark.parametrize("term", [2, 3])
async def test_a_term_that_is_not_above_the_one_held_is_denied_and_changes_nothing(rig: Rig, term: int) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    holding = await claimed(a, "A", 3)
    assert await b.claim("B", term, holding) == Denied(holding)
    assert await b.read() == holding


async def test_a_claim_over_a_holding_that_has_passed_is_denied_and_changes_nothing(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    holding = await claimed(a, "A", 1)
    assert await b.claim("B", 2, UNTOUCHED) == Denied(holding)
    assert await b.read() == holding


async def test_the_other_controllers_disk_is_taken_by_naming_its_holding(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    await claimed(a, "A", 1)
    holding = await claimed(b, "B", 2)
    assert await a.read() == holding
    assert await a.beat("A", 1, 5) == Denied(holding)


async def test_a_released_disk_is_free_and_never_grants_its_term_again(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    await claimed(a, "A", 4)
    answer = await a.release("A", 4)
    assert isinstance(answer, Granted)
    assert (answer.holding.owner, answer.holding.term) == (None, 4)
    assert await b.claim("B", 4, answer.holding) == Denied(answer.holding)
    assert (await claimed(b, "B", 5)).owner == "B"


@pytest.mark.parametrize(("node", "term"), [("B", 2), ("A", 1)])
async def test_only_the_holder_in_its_term_releases_writes_and_beats(rig: Rig, node: Node, term: int) -> None:
    a, other = rig.cable("A", 0), rig.cable(node, 0)
    holding = await claimed(a, "A", 2)
    assert await other.release(node, term) == Denied(holding)
    assert await other.write_record(node, a_record(node, term)) == Denied(holding)
    assert await other.beat(node, term, 9) == Denied(holding)
    assert await a.read() == holding
    assert await a.read_record() is None
    assert await a.read_beat() == 0


async def test_the_holder_writes_the_record_and_the_heartbeat_and_the_other_reads_them(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    await claimed(a, "A", 2)
    assert isinstance(await a.write_record("A", a_record("A", 2)), Granted)
    assert isinstance(await a.beat("A", 2, 77), Granted)
    assert await b.read_record() == a_record("A", 2)
    assert await b.read_beat() == 77


async def test_a_record_of_another_owner_or_term_is_denied(rig: Rig) -> None:
    a = rig.cable("A", 0)
    holding = await claimed(a, "A", 2)
    assert await a.write_record("A", a_record("B", 2)) == Denied(holding)
    assert await a.write_record("A", a_record("A", 3)) == Denied(holding)
    assert await a.read_record() is None


async def test_the_record_stays_when_the_disk_changes_hands(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    await claimed(a, "A", 1)
    await a.write_record("A", a_record("A", 1))
    await claimed(b, "B", 2)
    assert await b.read_record() == a_record("A", 1)


async def test_a_controller_cannot_act_as_the_other_through_its_own_cable(rig: Rig) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    holding = await claimed(a, "A", 1)
    assert await b.claim("A", 2, holding) == Denied(holding)
    assert await b.release("A", 1) == Denied(holding)
    assert await b.beat("A", 1, 3) == Denied(holding)
    assert await b.write_record("A", a_record("A", 1)) == Denied(holding)


async def test_what_was_granted_is_there_after_a_crash(rig: Rig) -> None:
    cables = [rig.cable("A", disk) for disk in range(DISKS)]
    holdings = [await claimed(cable, "A", 10 + disk) for disk, cable in enumerate(cables)]
    assert isinstance(await cables[1].write_record("A", a_record("A", 11)), Granted)
    released = await cables[2].release("A", 12)
    assert isinstance(released, Granted)
    await rig.crash()
    assert [await cable.read() for cable in cables] == [holdings[0], holdings[1], released.holding]
    assert await cables[1].read_record() == a_record("A", 11)


@pytest.mark.parametrize("way", ["both", "in", "out"])
async def test_a_cut_cable_is_silent_within_the_deadline_for_every_call_and_only_there(rig: Rig, way: str) -> None:
    a, b = rig.cable("A", 0), rig.cable("B", 0)
    holding = await claimed(a, "A", 1)
    await rig.cut("A", way)
    await rig.cut("A", way)  # once more changes nothing
    began = time.monotonic()
    answers = await asyncio.gather(a.read(), a.read_record(), a.read_beat(), a.beat("A", 1, 1))
    assert all(isinstance(answer, Silent) for answer in answers)
    assert time.monotonic() - began < DEADLINE_S + 0.7
    assert await b.read() == holding
    await rig.heal("A")
    await rig.heal("A")
    assert await a.read() == holding


async def test_a_claim_through_a_cut_cable_is_silent_and_later_claims_still_tell_the_truth(rig: Rig) -> None:
    a = rig.cable("A", 0)
    await rig.cut("A")
    assert isinstance(await a.claim("A", 1, UNTOUCHED), Silent)
    await rig.heal("A")
    assert await a.read() == UNTOUCHED


class TestTheShelfAlone:
    """What only a process with files can be asked."""

    @pytest.fixture
    async def shelf(self, tmp_path: Path) -> AsyncIterator[ShelfRig]:
        rig = ShelfRig(tmp_path)
        try:
            await rig.up()
            yield rig
        finally:
            rig.end()

    async def test_a_damaged_or_missing_state_is_not_served_and_never_taken_for_an_empty_disk(
        self, shelf: ShelfRig, tmp_path: Path
    ) -> None:
        cables = [shelf.cable("A", disk) for disk in range(DISKS)]
        holdings = [await claimed(cable, "A", 5) for cable in cables]
        shelf.process.kill()
        shelf.process.wait(10)
        damaged = tmp_path / "state" / "disk0.state"
        damaged.write_bytes(damaged.read_bytes().replace(b'"term":5', b'"term":4'))
        (tmp_path / "state" / "disk1.state").unlink()
        shelf._close_stderr()
        shelf.process = shelf.start()
        await shelf.up()
        answers = [await cable.read() for cable in cables]
        assert isinstance(answers[0], Silent)
        assert isinstance(answers[1], Silent)
        assert answers[2] == holdings[2]
        shelf.process.terminate()
        assert shelf.process.stderr is not None
        said = shelf.process.stderr.read().decode()
        assert "disk0.state" in said
        assert "disk1.state" in said

    async def test_a_line_that_is_no_frame_ends_that_connection_and_nothing_else(
        self, shelf: ShelfRig, tmp_path: Path
    ) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as bad:
            bad.connect(f"{tmp_path}/A/0")
            bad.settimeout(5)
            bad.sendall(b'{"type": "claim", "id": "x"}\n')
            assert bad.recv(1) == b""
        assert await shelf.cable("A", 0).read() == UNTOUCHED

    async def test_a_wrong_order_is_refused_with_the_field(self, shelf: ShelfRig) -> None:
        refused = await shelf._order({"verb": "cut", "node": "C"})
        assert refused is not None
        assert refused["ok"] is False
        assert "node" in str(refused["error"])
