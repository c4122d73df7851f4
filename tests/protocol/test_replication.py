"""Two replication machines and a shared register in named situations; what comes by chance is in tests/sim."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import msgspec
import pytest

from middlewared.kernel.event import START, Event, Position, Record, Stamp, follows, seal
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.protocol import peer_calls
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_frames import Identity, TermEnd
from middlewared.protocol.replication_owner import Owner, Phase


class Noted(Event, frozen=True, kw_only=True):
    kind = "test.noted"
    text: str


class MemoryLog:
    """What is durable on one controller."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.quarantine: list[Record] = []

    def head(self) -> Position:
        return self.records[-1].position if self.records else START

    def at(self, seq: int) -> Position:
        return self.records[seq - 1].position if 0 < seq <= len(self.records) else START

    def append(self, records: tuple[Record, ...]) -> Position:
        for record in records:
            assert follows(record, self.head()) is None, follows(record, self.head())
            self.records.append(record)
        return self.head()

    def history(self) -> tuple[TermEnd, ...]:
        ends: dict[int, TermEnd] = {r.term: TermEnd(r.term, r.seq, r.hash) for r in self.records}
        return tuple(ends.values())


class Controller:
    """A controller that crashes and comes back: the machine is new each time, the log stays."""

    def __init__(self, world: World, node: Node) -> None:
        self.world = world
        self.node = node
        self.log = MemoryLog()
        self.applied = START
        self.pair_seq = 0
        self.halted: str | None = None
        self.replica: Replica | None = None

    def start(self) -> None:
        identity = Identity(cluster_id="c", node=self.node, catalogue="x")
        self.replica = Replica(identity, self.log.head(), self.log.history(), self.applied, self.pair_seq)
        self.pending: deque[tuple[Record, ...]] = deque()
        self.open_term: int | None = None
        self.levels: dict[int, str] = {}

    def stop(self) -> None:
        self.replica = None
        self.pending.clear()

    def feed(self, message: values.Message) -> None:
        if self.replica is None:
            return
        for action in self.replica.receive(message, self.world.now):
            self.perform(action)

    def perform(self, action: values.Action) -> None:
        match action:
            case values.Send():
                self.world.send(self.node, action.frame)
            case values.Store():
                self.pending.append(action.records)
                self.world.later(self, self.store_next)
            case values.Read():
                read = values.Records(self.log.at(action.seq), tuple(self.log.records[action.seq :][: action.limit]))
                self.world.later(self, lambda: self.feed(read))
            case values.WriteRecord():
                self.world.later(self, lambda: self.write_record(action))
            case values.Committed():
                self.commit(action)
            case values.Open():
                self.open_term = action.term
                self.propose(f"begin {action.term}")
            case values.Close():
                self.open_term = None
            case values.Cut():
                self.world.later(self, lambda: self.cut(action.at))
            case values.DropLink():
                self.world.cut_line()
            case values.Halt():
                self.halted = action.why

    def store_next(self) -> None:
        if self.pending:
            self.feed(values.Stored(self.log.append(self.pending.popleft())))

    def write_record(self, action: values.WriteRecord) -> None:
        ok = self.world.write_record(self.node, action.record)
        self.feed(values.Written(action.id, ok))

    def commit(self, action: values.Committed) -> None:
        assert action.commit_seq <= len(self.log.records), "committed beyond what is durable here"
        self.applied = self.log.at(action.commit_seq)
        self.pair_seq = max(self.pair_seq, action.pair_seq)
        if self.open_term is not None:
            for seq in range(1, action.commit_seq + 1):
                record = self.log.records[seq - 1]
                level = "pair" if seq <= action.pair_seq else "single"
                self.world.answer(record, level)
        self.feed(values.Applied(self.applied.seq))

    def cut(self, at: Position) -> None:
        assert self.log.at(at.seq) == at, "asked to cut after a record that is not here"
        self.log.quarantine += self.log.records[at.seq :]
        del self.log.records[at.seq :]
        if self.applied.seq > at.seq:
            self.applied = at
        self.feed(values.CutDone(self.log.head(), self.log.history()))

    def propose(self, text: str) -> None:
        assert self.replica is not None
        if self.open_term is None:
            return
        stamp = Stamp(term=self.open_term, origin=self.node, actor="t", request_id=text, wall_ns=0)
        record = seal(Noted(text=text), self.replica.log.tip, stamp)
        self.feed(values.Proposed((record,)))


class World:
    """The register, the line and the time. Work that was started ends a little later, or never, if its owner died."""

    def __init__(self, seed: int, delays_s: tuple[float, ...] = (0.0005, 0.001, 0.01, 0.3)) -> None:
        self.random = random.Random(seed)
        self.delays_s = delays_s
        self.now = 0.0
        self.term = 1
        self.owner: Node | None = None
        self.record: PairRecord | None = None
        self.disks_silent = False
        self.line_up = False
        self.work: list[tuple[float, int, Controller, Replica | None, Callable[[], None]]] = []
        self.wire: dict[Node, deque[frames.Frame]] = {"A": deque(), "B": deque()}
        self.count = 0
        self.answered: dict[bytes, str] = {}
        self.nodes = {n: Controller(self, n) for n in ("A", "B")}
        stamp = Stamp(term=1, origin="A", actor="t", request_id="genesis", wall_ns=0)
        self.nodes["A"].log.append((seal(Noted(text="genesis"), START, stamp),))
        for controller in self.nodes.values():
            controller.start()

    def later(self, controller: Controller, work: Callable[[], None]) -> None:
        self.count += 1
        delay = self.random.choice(self.delays_s)
        # One disk does one thing after the other: nothing overtakes what was started before it.
        floor = max((due for due, _, c, _, _ in self.work if c is controller), default=0.0)
        self.work.append((max(self.now + delay, floor), self.count, controller, controller.replica, work))

    def send(self, node: Node, frame: frames.Frame) -> None:
        if self.line_up:
            carried = frames.decode(frames.encode(frame))
            assert not isinstance(carried, frames.Unknown | peer_calls.Ask | peer_calls.Answer)
            self.wire[node].append(carried)

    def answer(self, record: Record, level: str) -> None:
        if self.answered.get(record.hash) != "pair":
            self.answered[record.hash] = level

    def write_record(self, node: Node, record: PairRecord) -> bool:
        if self.disks_silent or node != self.owner or record.term != self.term:
            return False
        self.record = record
        # The answer may be lost although the record was written.
        return self.random.random() > 0.1

    def claim(self, node: Node) -> None:
        controller = self.nodes[node]
        if controller.replica is None or self.disks_silent:
            return
        self.term += 1
        self.owner = node
        before = self.record
        if before is not None:
            self.record = msgspec.structs.replace(before, term=self.term, owner=node)
        here = (
            controller.log.at(before.committed_seq).hash if before and controller.log.at(before.committed_seq) else None
        )
        controller.feed(values.Owning(term=self.term, record=before, hash_here=here))
        loser = self.nodes[other(node)]
        if self.random.random() < 0.7:
            loser.feed(values.Standing(self.term))

    def open_line(self) -> None:
        if not self.line_up and all(c.replica is not None for c in self.nodes.values()):
            self.line_up = True
            for controller in self.nodes.values():
                controller.feed(values.LinkUp())

    def cut_line(self) -> None:
        if self.line_up:
            self.line_up = False
            for queue in self.wire.values():
                queue.clear()
            for controller in self.nodes.values():
                controller.feed(values.LinkDown())

    def crash(self, node: Node) -> None:
        self.nodes[node].stop()
        self.cut_line()

    def restart(self, node: Node) -> None:
        controller = self.nodes[node]
        if controller.replica is None and controller.halted is None:
            controller.start()
            controller.feed(values.Standing(self.term))

    def run(self, seconds: float) -> None:
        """Let time pass: deliver, finish work, tick."""
        until = self.now + seconds
        for _ in range(20_000):
            for node in ("A", "B"):
                peer = self.nodes[other(node)]
                for _ in range(len(self.wire[node])):
                    if not self.wire[node]:
                        break
                    peer.feed(values.Got(self.wire[node].popleft()))
            self.finish_due()
            for controller in self.nodes.values():
                due = controller.replica.deadline() if controller.replica else None
                if due is not None and due <= self.now:
                    controller.feed(values.Tick())
            if self.now >= until:
                return
            self.now += 0.001
        raise AssertionError("the machines never came to rest")

    def finish_due(self) -> None:
        due = sorted(entry[:2] for entry in self.work if entry[0] <= self.now)
        for at, number in due:
            entry = next((e for e in self.work if e[:2] == (at, number)), None)
            if entry is None:
                continue
            self.work.remove(entry)
            _, _, controller, replica, work = entry
            if controller.replica is replica and replica is not None:
                work()


def check(world: World) -> None:
    """What must hold after the faults are over."""
    for controller in world.nodes.values():
        assert controller.halted is None, controller.halted
    a, b = (world.nodes[n].log for n in ("A", "B"))
    assert [r.hash for r in a.records] == [r.hash for r in b.records]
    kept = {record.hash for record in a.records}
    aside = {record.hash for log in (a, b) for record in log.quarantine}
    for digest, level in world.answered.items():
        assert digest in kept or (level == "single" and digest in aside), f"an answered write is gone ({level})"


def pair() -> World:
    """A owns and is open, B follows and is in sync."""
    world = World(1, delays_s=(0.001,))
    world.open_line()
    world.claim("A")
    world.nodes["B"].feed(values.Standing(2))
    world.run(2.0)
    assert world.record is not None
    assert world.record.in_sync == ("A", "B")
    return world


def owner_of(world: World, node: Node) -> Owner:
    replica = world.nodes[node].replica
    assert replica is not None
    assert isinstance(replica.side, Owner)
    return replica.side


def test_a_new_pair_comes_to_level_pair() -> None:
    world = pair()
    world.nodes["A"].propose("x")
    world.run(0.7)
    record = world.nodes["A"].log.records[-1]
    assert world.answered[record.hash] == "pair"
    assert world.nodes["B"].log.records[-1].hash == record.hash


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
    world = World(1, delays_s=(0.001,))
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
    world.delays_s = (0.3,)
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


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (Identity(cluster_id="other", node="B", catalogue="x"), "cluster"),
        (Identity(cluster_id="c", node="A", catalogue="x"), "both controllers"),
        (Identity(cluster_id="c", node="B", catalogue="x", protocol=2), "link protocol"),
        (Identity(cluster_id="c", node="B", catalogue="x", log_format_min=9, log_format_max=9), "log formats"),
        (Identity(cluster_id="c", node="B", catalogue="x", key_ids=("k",)), "keys"),
    ],
)
def test_a_peer_that_does_not_belong_here_is_refused_by_name(theirs: Identity, why: str) -> None:
    mine = Identity(cluster_id="c", node="A", catalogue="x")
    assert why in (frames.why_refused(mine, theirs) or "")


def test_a_peer_with_another_catalogue_is_accepted() -> None:
    mine = Identity(cluster_id="c", node="A", catalogue="x")
    assert frames.why_refused(mine, Identity(cluster_id="c", node="B", catalogue="y")) is None


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
    world.delays_s = (5.0,)
    a.propose("x")
    for frame in [frame for frame in world.wire["A"] if isinstance(frame, frames.Append)]:
        b.feed(values.Got(frame))
    b.store_next()
    world.cut_line()
    world.open_line()
    world.delays_s = (0.001,)
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
