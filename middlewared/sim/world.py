"""One seed: two controllers, their disks and cables, clients, operators and faults, and what must hold of them.

First the faults happen, then they end, and within HEAL_S the pair must be whole again: one owner that is in sync, equal
logs, no request open. Everything random comes from one Random; everything that waits, waits on one heap. So a seed is
the same world to the last byte of its trace, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from middlewared.engine.context import Committed
from middlewared.kernel.errors import Refused
from middlewared.kernel.event import START, Position, Record, Stamp, seal
from middlewared.kernel.facts import Node, PoolName, Vip
from middlewared.kernel.pools import Layout, Vdev
from middlewared.kernel.tenure import TermBegan
from middlewared.protocol import hub
from middlewared.protocol.replication_owner import Owner, Phase
from middlewared.sim import checkers
from middlewared.sim.carp import ADDRESS, VHID, Deed, Word
from middlewared.sim.checkers.checker import FIRST_TERM
from middlewared.sim.clients import Answer, Client, Operation
from middlewared.sim.controller import Controller
from middlewared.sim.disk import Platter
from middlewared.sim.faults import NODES
from middlewared.sim.loop import Loop, quiet
from middlewared.sim.network import Network, Path
from middlewared.sim.noun import WasPut
from middlewared.sim.pools import PoolDisks
from middlewared.sim.processes import TIMING
from middlewared.sim.swarm import Swarm
from middlewared.sim.timeline import Timeline
from middlewared.sim.trace import Trace
from middlewared.sim.voter import Disk

START_S = 2.0
FAULTS_S = (3.0, 6.0, 12.0)
"""How long faults happen. Many short worlds meet more than a few long ones."""
HEAL_S = 30.0
LOOK_S = 0.25
DRIFT = 0.01
POOLS, BMC = 0.4, 0.7
"""The share of worlds with pools, and of these the share with a way to the other controller's power."""


class Violation(msgspec.Struct, frozen=True):
    """checker: whose promise is broken. at_s: virtual time."""

    checker: str
    why: str
    at_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed came to. pairs: the (rule, phase) pairs that were met. written: records in the log at the end."""

    seed: int
    virtual_s: float
    faults: dict[str, int]
    pairs: frozenset[tuple[str, str]]
    written: int
    answered: int
    violations: tuple[Violation, ...]
    sha256: str
    lines: tuple[str, ...]


class World:
    """See faults.World, clients.World, controller.World and checkers.Scene for what each part may ask of it."""

    def __init__(self, seed: int, *, keep_trace: bool = False, swarm: bool = True) -> None:
        self.seed = seed
        self.random = random = Random(seed)  # noqa: S311 - a world, not a secret
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, keep=keep_trace)
        self.network = Network(self.timeline, random)
        self.disks = [Disk() for _ in range(random.choice((3, 3, 5)))]
        self.settings = hub.Settings(
            paired=True,
            cluster_id="sim",
            key=bytes(32),
            disabled=False,
            default_node="A",
            timeout_s=1.0,
            single_term=FIRST_TERM,
            vips=(Vip(vhid=VHID, address=ADDRESS, prefix=24, interface="eth0"),),
        )
        self._lay_out_pools(Random(f"{seed} pools"))  # noqa: S311
        self.forced = False
        self.loops: list[Loop] = []
        self.pairs: set[tuple[str, str]] = set()
        self.violations: list[Violation] = []
        self.checkers = [checker(self, self._wrong) for checker in checkers.ALL]
        self.controllers: dict[Node, Controller] = {
            node: Controller(self, node, 1 + (random.random() - 0.5) * 2 * DRIFT) for node in NODES
        }
        self._begin_log()
        known: dict[str, str] = {}
        every_s = random.choice((0.06, 0.25, 1.0))
        self.clients = [
            Client(self, f"c{i}", known, every_s, random.choice((0.0, 0.1))) for i in range(random.randint(1, 4))
        ]
        self.swarm = Swarm(self, Random(f"{seed} rare")) if swarm else None  # noqa: S311

    def _lay_out_pools(self, chance: Random) -> None:
        """Some worlds have pools, on all disks; some of these a way to the other controller's power."""
        count = chance.choice((1, 2)) if chance.random() < POOLS else 0
        self.has_bmc = count > 0 and chance.random() < BMC
        self.pool_disks = PoolDisks(len(self.disks), self._lands)
        layout = Layout(data=(Vdev(type="MIRROR", devices=tuple(disk.path for disk in self.pool_disks.disks)),))
        names = [f"tank{number}" for number in range(count)]
        self.pools = tuple(PoolName(name=name, guid=self.pool_disks.lay_out(name, layout)) for name in names)
        self.settings = msgspec.structs.replace(self.settings, pools=count > 0)

    def _lands(self, host: str, path: str) -> bool | None:
        """Whether a controller's write to a shared disk lands; None: it does not reach it."""
        number = int(path.rpartition("/")[2])
        disk = self.disks[number]
        node: Node = "A" if host == "A" else "B"
        if disk.dead or self.network.path(f"cable{number}", node).cut:
            return None
        return disk.register.holding.owner in (None, node)

    def _begin_log(self) -> None:
        """A was alone before there was a pair; the log of B is empty."""
        stamp = Stamp(term=FIRST_TERM, origin="A", actor="middlewared", request_id="", wall_ns=0)
        began = TermBegan(owner="A", reason="never paired", prev_last_seq=0, in_sync=(), adopted=0)
        records = [seal(began, START, stamp)]
        for i in range(self.random.randrange(4)):
            records.append(
                seal(WasPut(key="a", old=f"{i - 1}" if i else "", value=f"{i}"), records[-1].position, stamp)
            )
        self.controllers["A"].platter.records = records

    # --- the run ---

    def run(self) -> Outcome:
        """Live through it."""
        with quiet():
            self.start()
            self.timeline.run_until(START_S, self._broken)
            for client in self.clients:
                client.start()
            if self.swarm is not None:
                self.swarm.start()
            self.timeline.run_until(START_S + self.random.choice(FAULTS_S), self._broken)
            self.heal()
            if not self.violations:
                for checker in self.checkers:
                    checker.at_end()
        outcome = self.outcome()
        for loop in self.loops:
            loop.bury()
        return outcome

    def start(self) -> None:
        for node in NODES:
            self.timeline.after(self.random.random(), self.controllers[node].boot)

    def heal(self) -> None:
        """All faults end; the pair becomes whole."""
        self.trace.add("world", "heal")
        for client in self.clients:
            client.stop()
        if self.swarm is not None:
            self.swarm.stop()
        self.network.heal()
        for disk in self.disks:
            disk.dead = False
        self.pool_disks.cut.clear()
        self.configure(msgspec.structs.replace(self.settings, disabled=False))
        for controller in self.controllers.values():
            controller.platter.heal()
            controller.boot()
            controller.freeze(False)
            controller.slow_down(0.0)
            controller.zfs.hangs = False
            controller.start_carpd()
            assert controller.signs is not None
            controller.signs.carrier = True
        end = self.timeline.now + HEAL_S
        while not self.violations and not self.whole():
            if self.timeline.now >= end:
                self._wrong("liveness", self._what_is_missing())
            self.timeline.run_until(self.timeline.now + LOOK_S, self._broken)

    def _broken(self) -> bool:
        return bool(self.violations)

    def whole(self) -> bool:
        return not self._what_is_missing()

    def _what_is_missing(self) -> str:
        """Why the pair is not whole; empty if it is."""
        running = {node: controller.middlewared for node, controller in self.controllers.items()}
        replicas = {node: m.replicator.replica for node, m in running.items() if m is not None}
        if len(replicas) < 2:
            return f"only {sorted(replicas)} run"
        owners = [node for node, replica in replicas.items() if isinstance(replica.side, Owner)]
        if len(owners) != 1:
            return f"the owners are {owners}"
        side = replicas[owners[0]].side
        assert isinstance(side, Owner)
        if side.phase is not Phase.OPEN or side.synced != frozenset(NODES):
            return f"{owners[0]} owns and is {side.phase.value} {side.why}; in sync are {sorted(side.synced)}"
        if not all(replica.log.quiet for replica in replicas.values()):
            return "a record is on its way to a disk"
        ends = {(replica.log.head, replica.log.committed.seq) for replica in replicas.values()}
        states = [m.state.applied for m in running.values() if m is not None]
        if len(ends) > 1 or states[0] != states[1] or states[0].seq != side.log.head.seq:
            return f"the logs end at {[r.log.head.seq for r in replicas.values()]}, applied {[s.seq for s in states]}"
        for pool in self.pools:
            if self.importers(pool.guid) != {owners[0]}:
                return f"{owners[0]} owns, and {pool.name} is imported by {sorted(self.importers(pool.guid))}"
        foreign = sum(disk.register.holding.owner != owners[0] for disk in self.disks)
        if foreign:
            return f"{owners[0]} owns, and {foreign} of {len(self.disks)} disks are not reserved for it"
        answering = [node for node in NODES if self.answers(node)]
        if answering != owners:
            return f"{owners[0]} owns, and the address is answered by {answering}"
        waiting = [str(client.operations[-1]) for client in self.clients if client.waits]
        return f"{waiting} wait for an answer" if waiting else ""

    def outcome(self) -> Outcome:
        counts = self.swarm.counts if self.swarm is not None else {}
        return Outcome(
            seed=self.seed,
            virtual_s=self.timeline.now,
            faults=counts,
            pairs=frozenset(self.pairs),
            written=len(self.platters["A"].records),
            answered=sum(op.outcome == "ok" for op in self.operations),
            violations=tuple(self.violations),
            sha256=self.trace.sha256(),
            lines=tuple(self.trace.lines or ()),
        )

    def _wrong(self, checker: str, why: str) -> None:
        self.trace.add("world", "VIOLATION", checker=repr(checker), why=repr(why))
        self.violations.append(Violation(checker, why, self.timeline.now))

    # --- what the parts ask ---

    @property
    def platters(self) -> Mapping[Node, Platter]:
        return {node: controller.platter for node, controller in self.controllers.items()}

    @property
    def operations(self) -> Sequence[Operation]:
        return [operation for client in self.clients for operation in client.operations]

    def states(self, node: Node) -> Mapping[str, Any] | None:
        middlewared = self.controllers[node].middlewared
        return middlewared.state.states if middlewared is not None else None

    lease_s = TIMING.lease_s
    both_may_answer_s = 2 * TIMING.lease_s + TIMING.renew_s

    def answers(self, node: Node) -> bool:
        return self.controllers[node].kernel.answers

    def importers(self, guid: str) -> set[Node]:
        hosts = self.pool_disks.importers.get(guid, set())
        return {node for node in NODES if node in hosts}

    def disks_of(self, node: Node) -> list[Disk]:
        return [disk for i, disk in enumerate(self.disks) if not self.network.path(f"cable{i}", node).cut]

    def configure(self, settings: hub.Settings) -> None:
        self.settings = settings
        for controller in self.controllers.values():
            if controller.middlewared is not None:
                controller.middlewared.fence.state(settings)

    def client_path(self, node: Node) -> Path:
        return self.network.path("client", node)

    def ask(self, node: Node, operation: Operation, client: Client) -> None:
        middlewared = self.controllers[node].middlewared
        if middlewared is None:
            return
        turn, path, (name, request_id) = operation.turn, self.client_path(node), operation.key

        def reply(answer: object) -> None:
            self._gave(operation, node, answer, middlewared.replicator.replica.log.tip.seq)
            path.carry(self.timeline, lambda: client.hear(operation, node, turn, answer))

        middlewared.serve(operation.command, request_id, name, reply)

    def _gave(self, operation: Operation, node: Node, answer: object, tip_seq: int) -> None:
        if isinstance(answer, Committed):
            given = Answer(node=node, outcome="ok", seq=answer.seq, level=answer.durability, again=answer.again)
        elif isinstance(answer, Refused):
            given = Answer(node=node, outcome="refused", seq=tip_seq, level="")
        else:
            given = Answer(node=node, outcome="unknown", seq=0, level="")
        self.trace.add(node, "answers", request=operation, outcome=given.outcome, seq=given.seq, level=given.level)
        operation.given.append(given)
        for checker in self.checkers:
            checker.answered(operation, given)

    # --- controller.Watch ---

    @property
    def watch(self) -> World:
        return self

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        last = records[-1]
        self.trace.add(node, "stored", seq=last.seq, term=last.term, hash=last.hash.hex()[:8])
        for checker in self.checkers:
            checker.stored(node, records)

    def proposed(self, node: Node, records: Sequence[Record]) -> None:
        for checker in self.checkers:
            checker.proposed(node, records)

    def committed(self, node: Node, commit_seq: int, pair_seq: int) -> None:
        self.trace.add(node, "committed", seq=commit_seq, pair=pair_seq)
        for checker in self.checkers:
            checker.committed(node, commit_seq, pair_seq)

    def applied(self, node: Node, at: Position) -> None:
        for checker in self.checkers:
            checker.applied(node, at)

    def address(self, node: Node, deed: Deed) -> None:
        for checker in self.checkers:
            checker.address(node, deed, self.timeline.now)

    def advert(self, node: Node, word: Word, data: bytes) -> None:
        for checker in self.checkers:
            checker.advert(node, word, data)

    def stood_still(self, node: Node, for_s: float) -> None:
        for checker in self.checkers:
            checker.stood_still(node, for_s)

    def importing(self, node: Node, guid: str) -> None:
        for checker in self.checkers:
            checker.importing(node, guid)

    def imported(self, node: Node, guid: str) -> None:
        for checker in self.checkers:
            checker.imported(node, guid)

    def exporting(self, node: Node, name: str) -> None:
        for checker in self.checkers:
            checker.exporting(node, name)

    def granted(self, node: Node, term: int) -> None:
        for checker in self.checkers:
            checker.granted(node, term)

    def halted(self, node: Node, why: str) -> None:
        self._wrong("halted", f"{node}: {why}")

    def differs(self, node: Node, seq: int) -> None:
        self._wrong("I6 states equal", f"the digests of the two controllers differ at seq {seq}, says {node}")

    def stood(self, rule: str, phase: str) -> None:
        self.pairs.add((rule, phase))
