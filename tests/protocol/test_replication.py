"""Two replication machines and a shared register in named situations; what comes by chance is in tests/sim."""

from __future__ import annotations

import msgspec
import pytest

from middlewared.kernel.event import START, Position, Stamp, seal
from middlewared.kernel.facts import Node, other
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_owner
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication_owner import GATHER_S, Phase
from tests.protocol.two_replicas import Controller, Noted, World, check, owner_of, pair


def test_a_new_pair_comes_to_level_pair() -> None:
    world = pair()
    world.nodes["A"].propose("x")
    world.run(0.7)
    record = world.nodes["A"].log.records[-1]
    assert world.answered[record.hash] == "pair"
    assert world.nodes["B"].log.records[-1].hash == record.hash


def test_while_one_batch_is_on_its_way_the_next_is_read_and_no_more_than_a_window_is_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "BATCH_RECORDS", 8)
    monkeypatch.setattr(replication_owner, "WINDOW", 32)
    world = pair()
    world.crash("B")
    world.run(1.0)
    for n in range(100):
        world.nodes["A"].propose(str(n))
    world.run(2.0)
    under_way: list[int] = []
    owner, perform = owner_of(world, "A"), world.nodes["A"].perform

    def noting(action: values.Action) -> None:
        if isinstance(action, values.Read) and action.limit:
            assert owner.acked is not None
            assert action.seq < owner.acked.seq + 32
            under_way.append(action.seq)
        if isinstance(action, values.Send) and isinstance(action.frame, frames.Append):
            ahead.append(len(under_way))
            under_way.clear()
        perform(action)

    ahead: list[int] = []
    world.nodes["A"].perform = noting  # type: ignore[method-assign]
    world.restart("B")
    world.open_line()
    world.run(3.0)
    check(world)
    assert max(ahead) == 2
    assert world.record is not None
    assert world.record.in_sync == ("A", "B")


def test_without_the_peer_the_record_is_written_before_the_first_reply() -> None:
    world = pair()
    world.disks_silent = True
    world.crash("B")
    world.nodes["A"].propose("x")
    world.run(2.0)
    record = world.nodes["A"].log.records[-1]
    assert record.hash not in world.answered
    world.disks_silent = False
    world.run(1.0)
    assert world.answered[record.hash] == "single"
    assert world.record is not None
    assert world.record.in_sync == ("A",)


def test_the_one_that_was_left_behind_opens_nothing() -> None:
    world = pair()
    world.crash("B")
    world.nodes["A"].propose("x")
    world.run(1.0)
    world.crash("A")
    world.restart("B")
    world.claim("B")
    world.run(1.0)
    assert owner_of(world, "B").phase is Phase.BEHIND
    assert "controller A alone" in owner_of(world, "B").why
    world.nodes["B"].propose("y")
    assert all("y" not in record.request_id for record in world.nodes["B"].log.records)


def test_the_one_that_was_left_behind_adopts_when_the_other_returns() -> None:
    world = pair()
    world.crash("B")
    world.nodes["A"].propose("x")
    world.run(1.0)
    world.crash("A")
    world.restart("B")
    world.claim("B")
    world.restart("A")
    world.open_line()
    world.run(2.0)
    assert owner_of(world, "B").phase is Phase.OPEN
    assert [r.request_id for r in world.nodes["B"].log.records if r.request_id == "x"] == ["x"]
    check(world)


def test_a_new_controller_that_owns_first_adopts_the_configuration_of_the_other() -> None:
    world = World()
    world.nodes["A"].feed(values.Standing(2))
    world.claim("B")
    world.run(1.0)
    assert owner_of(world, "B").phase is Phase.BEHIND
    world.open_line()
    world.run(2.0)
    assert owner_of(world, "B").phase is Phase.OPEN
    assert world.nodes["B"].log.records[0].request_id == "genesis"
    check(world)


def test_an_owner_that_restarts_adopts_what_only_the_standby_stored() -> None:
    world = pair()
    a, b = world.nodes["A"], world.nodes["B"]
    a.propose("x")
    shipped = [f for f in world.wire["A"] if isinstance(f, frames.Append)]
    for frame in shipped:
        b.feed(values.Got(frame))
    a.pending.clear()
    b.store_next()
    world.crash("A")
    assert a.log.head().seq + 1 == b.log.head().seq
    world.restart("A")
    world.claim("A")
    world.open_line()
    world.run(2.0)
    assert "x" in [r.request_id for r in a.log.records]
    check(world)


def test_an_owner_whose_disk_takes_longer_than_it_gathers_takes_the_peer_in_all_the_same() -> None:
    world = pair()
    a, b = world.nodes["A"], world.nodes["B"]
    a.propose("x")
    for frame in [f for f in world.wire["A"] if isinstance(f, frames.Append)]:
        b.feed(values.Got(frame))
    a.pending.clear()
    b.store_next()
    world.crash("A")
    world.restart("A")
    world.claim("A")
    world.open_line()
    world.delay_s = 0.6 * GATHER_S  # one for the peer's reading, one for the disk here
    world.run(1.3 * GATHER_S)
    world.delay_s = 0.001
    world.run(2.0)
    assert "x" in [r.request_id for r in a.log.records]
    assert owner_of(world, "A").synced == {"A", "B"}
    check(world)


def test_a_forced_owner_sets_the_others_writes_aside() -> None:
    world = pair()
    world.crash("B")
    world.nodes["A"].propose("x")
    world.run(1.0)
    world.crash("A")
    world.restart("B")
    world.term += 1
    world.owner = "B"
    world.nodes["B"].feed(values.Owning(term=world.term, record=world.record, hash_here=None, forced=True))
    world.run(1.0)
    assert owner_of(world, "B").phase is Phase.OPEN
    world.restart("A")
    world.open_line()
    world.run(3.0)
    assert [r.request_id for r in world.nodes["A"].log.quarantine] == ["x"]
    check(world)


def test_a_standby_that_takes_long_to_set_a_tail_aside_is_told_nothing_meanwhile() -> None:
    world = pair()
    world.cut_line()
    world.nodes["A"].propose("x")
    world.run(0.01)
    world.term += 1
    world.owner = "B"
    world.nodes["B"].feed(values.Owning(term=world.term, record=world.record, hash_here=None, forced=True))
    world.nodes["A"].feed(values.Standing(world.term))
    world.run(0.5)
    world.delay_s = 0.3
    world.open_line()
    world.run(0.1)
    world.nodes["B"].propose("y")
    world.run(3.0)
    assert [r.request_id for r in world.nodes["A"].log.quarantine] == ["x"]
    assert world.line_up, "the line was never dropped"
    assert world.nodes["A"].applied == world.nodes["B"].log.head()
    check(world)


def test_a_tail_that_was_answered_at_pair_is_never_cut() -> None:
    world = pair()
    world.nodes["A"].propose("x")
    world.run(0.7)
    b = world.nodes["B"]
    del b.log.records[-1]  # what must not happen: B lost a durable record
    world.crash("B")
    world.crash("A")
    world.restart("B")
    world.term += 1
    world.owner = "B"
    b.feed(values.Owning(term=world.term, record=world.record, hash_here=None, forced=True))
    world.run(1.0)
    world.restart("A")
    world.open_line()
    world.run(1.0)
    assert world.nodes["A"].halted is not None
    assert "nothing was cut" in world.nodes["A"].halted
    assert world.nodes["A"].log.quarantine == []


def test_a_record_that_leaves_a_gap_ends_the_line() -> None:
    world = pair()
    b = world.nodes["B"]
    stamp = Stamp(term=2, origin="A", actor="t", request_id="", wall_ns=0)
    far = seal(Noted(text="far"), Position(99, 1, bytes(32)), stamp)
    b.feed(values.Got(frames.Append(2, Position(99, 2, bytes(32)), (far,), 0, 0)))
    assert not world.line_up
    world.open_line()
    world.run(2.0)
    check(world)


def test_a_record_that_only_one_disk_held_lets_nothing_be_committed_before_it_is_written_again() -> None:
    world = pair()
    assert world.record is not None
    world.crash("B")
    world.crash("A")
    # A had asked for a record without B; it reached one disk, and that disk is among those which are read.
    alone = msgspec.structs.replace(world.record, in_sync=("A",))
    world.restart("A")
    a, before = world.nodes["A"], world.nodes["A"].applied.seq
    world.disks_silent = True
    world.term, world.owner = world.term + 1, "A"
    here = a.log.at(alone.committed_seq).hash
    a.feed(values.Owning(term=world.term, record=alone, hash_here=here))
    world.run(1.0)
    a.propose("x")
    world.run(1.0)
    assert a.applied.seq == before
    world.disks_silent = False
    world.run(1.0)
    assert a.applied == a.log.head()


def test_a_standby_is_not_told_to_set_aside_what_is_still_on_its_way_to_the_owners_disk() -> None:
    world = pair()
    a, b = world.nodes["A"], world.nodes["B"]
    world.delay_s = 5.0
    a.propose("x")
    for frame in [frame for frame in world.wire["A"] if isinstance(frame, frames.Append)]:
        b.feed(values.Got(frame))
    b.store_next()
    world.cut_line()
    world.open_line()
    world.delay_s = 0.001
    world.run(8.0)
    assert b.log.quarantine == []
    assert [r.request_id for r in b.log.records][-1] == "x"
    check(world)


def with_forty_writes(monkeypatch: pytest.MonkeyPatch) -> World:
    """A pair that answered forty writes at level pair since its record was written, and has no power any more.

    The log travels four records at a time.
    """
    monkeypatch.setattr(frames, "BATCH_RECORDS", 4)
    world = pair()
    for n in range(40):
        world.nodes["A"].propose(f"x{n}")
    world.run(0.7)
    assert list(world.answered.values()).count("pair") >= 40
    world.crash("A")
    world.crash("B")
    assert world.record is not None
    assert world.record.in_sync == ("A", "B")
    assert world.record.committed_seq < 5
    return world


def loses_everything(controller: Controller) -> None:
    controller.log.records.clear()
    controller.applied, controller.pair_seq = START, 0


def until_a_part_is_stored(world: World, node: Node) -> None:
    records, whole = world.nodes[node].log.records, len(world.nodes[other(node)].log.records)
    for _ in range(5000):
        if records:
            break
        world.run(0.001)
    assert 0 < len(records) < whole


def test_a_standby_that_lost_its_log_opens_nothing_when_the_owner_dies_before_it_has_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = with_forty_writes(monkeypatch)
    loses_everything(world.nodes["B"])
    world.nodes["A"].applied = world.nodes["A"].log.at(3)  # what state.db had when the power went
    world.restart("A")
    world.claim("A")
    world.restart("B")
    world.open_line()
    until_a_part_is_stored(world, "B")
    world.crash("A")
    world.claim("B")
    world.run(1.0)
    assert owner_of(world, "B").phase is Phase.BEHIND
    assert "controller A alone" in owner_of(world, "B").why
    world.restart("A")
    world.open_line()
    world.run(3.0)
    check(world)


def test_a_standby_that_lost_its_log_gets_nothing_while_the_record_may_still_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = with_forty_writes(monkeypatch)
    loses_everything(world.nodes["B"])
    world.restart("A")
    world.claim("A")
    world.disks_silent = True
    world.restart("B")
    world.open_line()
    world.nodes["A"].propose("y")
    world.run(2.0)
    assert world.nodes["B"].log.records == []
    assert "y" not in {r.request_id for r in world.nodes["A"].log.records if r.hash in world.answered}
    world.disks_silent = False
    world.run(3.0)
    assert owner_of(world, "A").synced == {"A", "B"}
    check(world)


def test_an_owner_that_lost_its_log_opens_nothing_when_it_dies_before_it_has_adopted_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = with_forty_writes(monkeypatch)
    loses_everything(world.nodes["A"])
    world.restart("A")
    world.restart("B")
    world.claim("A")
    world.open_line()
    until_a_part_is_stored(world, "A")
    world.crash("A")
    world.crash("B")
    world.restart("A")
    world.claim("A")
    world.run(2.0)
    assert owner_of(world, "A").phase is Phase.BEHIND
    world.restart("B")
    world.open_line()
    world.run(3.0)
    assert owner_of(world, "A").phase is Phase.OPEN
    check(world)


def test_an_owner_that_adopts_opens_only_when_it_has_the_end_that_the_peer_named() -> None:
    world = pair()
    world.crash("B")
    world.nodes["A"].propose("x")
    world.run(1.0)
    world.crash("A")
    world.restart("B")
    world.claim("B")
    world.restart("A")
    world.open_line()
    b = world.nodes["B"]
    assert b.replica is not None
    before, end = b.log.head(), world.nodes["A"].log.head()
    world.run(0.002)
    b.feed(values.Got(frames.Tail(world.term, before, (), end)))
    assert owner_of(world, "B").phase is Phase.BEHIND
    world.run(2.0)
    assert owner_of(world, "B").phase is Phase.OPEN
    assert "x" in [r.request_id for r in b.log.records]
    check(world)
