"""Two replication machines and a shared register, for named situations; what comes by chance is in middlewared/sim."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from middlewared.kernel.event import START, Event, Position, Record, Stamp, follows, seal
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.protocol import peer_calls
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_frames import Identity, TermEnd
from middlewared.protocol.replication_owner import Owner


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

    def __init__(self) -> None:
        self.delay_s = 0.001
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
        # One disk does one thing after the other: nothing overtakes what was started before it.
        floor = max((due for due, _, c, _, _ in self.work if c is controller), default=0.0)
        self.work.append((max(self.now + self.delay_s, floor), self.count, controller, controller.replica, work))

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
        return True

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
        self.nodes[other(node)].feed(values.Standing(self.term))

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
    world = World()
    world.open_line()
    world.claim("A")
    world.run(2.0)
    assert world.record is not None
    assert world.record.in_sync == ("A", "B")
    return world


def owner_of(world: World, node: Node) -> Owner:
    replica = world.nodes[node].replica
    assert replica is not None
    assert isinstance(replica.side, Owner)
    return replica.side
